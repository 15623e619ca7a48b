"""What the motion stage minimises, without any label.

That motion is learned by rebuilding the apex is the paper's; which terms, and their weights, are
chosen here. The First Order Motion Model compares features of a network that was trained to name
objects; no such weights are taken here, and grey levels and their structure stand in their place.
"""

from __future__ import annotations

from torch import Tensor

from mer_prep.models.frl_dgt.objective import structural_similarity
from mer_prep.models.frl_dgt.pictures import grey

#: Share of each part in the loss of the motion stage.
WEIGHTS = {"photometric": 1.0, "structure": 1.0, "points": 0.1, "jacobians": 0.01}


def rebuilding(rebuilt: Tensor, apex: Tensor) -> dict[str, Tensor]:
    """Return how far a rebuilt apex is from the true one.

    Parameters
    ----------
    rebuilt, apex : Tensor, shape (B, 3, S, S), float
        Pictures in [0, 1].

    Returns
    -------
    dict of str to Tensor, shape ()
        ``photometric``, the mean difference of colours, and ``structure``, the mean of
        ``(1 - SSIM) / 2`` of grey levels; both are 0 for the same picture.
    """
    return {
        "photometric": (rebuilt.float() - apex).abs().mean(),
        "structure": (1 - structural_similarity(grey(rebuilt.float()), grey(apex))).mean() / 2,
    }
