"""The symmetric contrastive loss of SelfME.

References
----------
.. [1] X. Fan, X. Chen, M. Jiang, A. R. Shahid, H. Yan, "SelfME: Self-Supervised Motion Learning
   for Micro-Expression Recognition", CVPR 2023. doi:10.1109/CVPR52729.2023.01329
.. [2] P. Khosla et al., "Supervised contrastive learning", NeurIPS 2020. arXiv:2004.11362
"""

from __future__ import annotations

import torch
from torch import Tensor

from mer_prep.checks import check_option
from mer_prep.models.selfme.regions import MIRROR, REGIONS

#: Which pairs of regions are contrasted.
CONTRASTED = ("symmetric", "all")


def contrasted_pairs(kind: str = "symmetric") -> tuple[tuple[int, int], ...]:
    """Return the ordered pairs of regions that are contrasted.

    Parameters
    ----------
    kind : {'symmetric', 'all'}
        Each region with itself and with its mirror image, or with all four.

    Raises
    ------
    ConfigError
        For another kind.
    """
    check_option("contrasted", kind, CONTRASTED)
    count = len(REGIONS)
    return tuple(
        (one, other)
        for one in range(count)
        for other in range(count)
        if kind == "all" or other in (one, MIRROR[one])
    )


def symmetric_contrast(
    features: Tensor, labels: Tensor, *, tau: float = 0.07, contrasted: str = "symmetric"
) -> Tensor:
    """Return the symmetric contrastive loss of a batch, as it is printed in [1]_.

    Parameters
    ----------
    features : Tensor, shape (B, 4, d), float
        Phi, the features of the regions in the order of `REGIONS`, each of length 1.
    labels : Tensor, shape (B,), int
        Classes.
    tau : float
        Temperature.
    contrasted : {'symmetric', 'all'}
        See `contrasted_pairs`.

    Returns
    -------
    Tensor, shape ()
        The sum over the batch; never negative. A sample and pair of regions without any positive
        adds nothing.

    Notes
    -----
    ``L = sum_i sum_(a,b) -1/|P(i,a,b)| sum_(p in P) log( exp(Phi_i^a . Phi_p^b / tau) /
    sum_(q in A(i,a,b)) exp(Phi_i^a . Phi_q^b / tau) )``, the form of [2]_ with pairs of regions.
    P holds the samples of the same class, A all samples; where a = b both leave out i itself.
    [1]_ prints neither set on its slides: that the other half of the same face is a positive, and
    that only mirrored regions meet, is read from its figure.
    """
    count = len(features)
    itself = torch.eye(count, dtype=torch.bool, device=features.device)
    alike = labels[:, None] == labels[None]
    total = features.new_zeros(())
    for one, other in contrasted_pairs(contrasted):
        scores = features[:, one] @ features[:, other].T / tau
        positive = alike
        if one == other:
            if count == 1:
                # One sample alone has no other: the sum below would be that of nothing.
                continue
            scores = scores.masked_fill(itself, -torch.inf)
            positive = alike & ~itself
        logs = scores - scores.logsumexp(dim=1, keepdim=True)
        found = positive.sum(dim=1).clamp_min(1)
        total = total - (logs.masked_fill(~positive, 0).sum(dim=1) / found).sum()
    return total
