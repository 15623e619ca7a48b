"""What MOL minimises.

References
----------
.. [1] Z. Shao et al., "MOL: Joint Estimation of Micro-Expression, Optical Flow, and Landmark via
   Transformer-Graph-Style Convolution", IEEE TPAMI, 2025. arXiv:2506.14511. Equations (6) to (9).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from mer_prep.dataset import Batch
from mer_prep.models.output import ModelOutput
from mer_prep.ops.similarity import LEFT_EYE, RIGHT_EYE


def ocular_distance(landmarks: Tensor) -> Tensor:
    """Return the distance between the centres of the eyes.

    Parameters
    ----------
    landmarks : Tensor, shape (..., 68, 2)
        Landmarks in px.

    Returns
    -------
    Tensor, shape (...)
        In px.
    """
    right = landmarks[..., RIGHT_EYE, :].mean(dim=-2)
    left = landmarks[..., LEFT_EYE, :].mean(dim=-2)
    return (right - left).norm(dim=-1)


def flow_loss(found: Tensor, true: Tensor) -> Tensor:
    """Return the mean squared error of flows, equation (7) of [1]_, in px squared."""
    return functional.mse_loss(found.float(), true)


def landmark_loss(found: Tensor, true: Tensor) -> Tensor:
    """Return the mean distance of landmarks relative to that of the eyes, equation (8) of [1]_.

    Parameters
    ----------
    found, true : Tensor, shape (B, P, 68, 2)
        Landmarks in px.

    Returns
    -------
    Tensor, shape ()
        Mean over frames and points of ``(|dx| + |dy|) / d`` with the true ocular distance d.
    """
    distance = (found.float() - true).abs().sum(dim=-1)
    return (distance / ocular_distance(true)[..., None]).mean()


def mol_losses(output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
    """Return the losses of MOL by name: ``expression``, and ``flow`` and ``landmarks`` if there.

    Parameters
    ----------
    output : ModelOutput
        What the model gives.
    batch : Batch
        What is true.
    """
    losses = {"expression": functional.cross_entropy(output.logits.float(), batch.labels)}
    if output.flow is not None:
        losses["flow"] = flow_loss(output.flow, batch.flow)
    if output.landmarks is not None:
        losses["landmarks"] = landmark_loss(output.landmarks, batch.landmarks[:, 1:])
    return losses
