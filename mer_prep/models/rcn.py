"""RCN-A: a recurrent convolution whose features are weighed by the classifier's own maps.

References
----------
.. [1] Z. Xia, W. Peng, H.-Q. Khor, X. Feng, G. Zhao, "Revealing the invisible with model and data
   shrinking for composite-database micro-expression recognition", IEEE Transactions on Image
   Processing 29, 2020. doi:10.1109/TIP.2020.3018222
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from mer_prep.checks import check_option, check_range
from mer_prep.models.picture import CENTRES, PictureNetwork
from mer_prep.ops.motion_image import NORMALISATIONS

#: Side of the pooled features that are classified, cells.
POOLED = 5

#: Range below which a class map is flat, and attends to nothing in particular.
_FLAT = 1e-12


@dataclass(frozen=True)
class RcnConfig:
    """The architecture of RCN-A; the defaults are the published code's.

    Parameters
    ----------
    side : int
        Side of the pictures, px.
    channels : int
        Feature maps.
    recurrences : int
        How often the recurrent convolution is gone through.
    attention : bool
        Whether the pooled features are weighed; without it, it is the plain network.
    dropout : float
        Part of the features left out in training, after each of two layers.
    normalise : {'min-max', 'none'}
        As of `mer_prep.models.ststnet.StstnetConfig`.
    centre : {'none', 'mean-image', 'standard', 'bytes'}
        As of it.
    """

    side: int = 60
    channels: int = 64
    recurrences: int = 2
    attention: bool = True
    dropout: float = 0.5
    normalise: str = "min-max"
    centre: str = "none"

    def __post_init__(self) -> None:
        check_range("side", self.side, low=16, high=1024)
        check_range("channels", self.channels, low=1, high=4096)
        check_range("recurrences", self.recurrences, low=1, high=16)
        check_range("dropout", self.dropout, low=0, high=0.95)
        check_option("normalise", self.normalise, NORMALISATIONS)
        check_option("centre", self.centre, CENTRES)


#: Architectures by name.
PRESETS: dict[str, RcnConfig] = {
    "paper": RcnConfig(),
    "tiny": RcnConfig(side=28, channels=16, dropout=0.2, normalise="none", centre="standard"),
}


class RcnA(PictureNetwork):
    """RCN-A: 51,139 parameters with three classes.

    Parameters
    ----------
    config : RcnConfig
        Its architecture.
    classes : int
        Number of classes n.
    """

    def __init__(self, config: RcnConfig, classes: int) -> None:
        super().__init__(3, config.side)
        width = config.channels
        self.recurrences, self.attention = config.recurrences, config.attention
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 5),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(config.dropout),
        )
        self.ahead = nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.recurrent = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.smaller = nn.Sequential(nn.MaxPool2d(2), nn.Dropout(config.dropout))
        self.head = nn.Linear(width * POOLED**2, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.head.weight, 0, 0.01)
        nn.init.zeros_(self.head.bias)

    def scores(self, pictures: Tensor) -> Tensor:
        """Return the scores (B, n) of normalised pictures (B, 3, S, S)."""
        stem = self.stem(pictures)
        state = self.ahead(stem)
        for _ in range(self.recurrences):
            state = self.recurrent(stem + state)
        features = functional.adaptive_avg_pool2d(self.smaller(state), POOLED)
        if self.attention:
            pooled = functional.adaptive_avg_pool2d(stem, POOLED)
            features = features * class_attention(pooled, self.head.weight)
        return self.head(features.flatten(1))


def class_attention(features: Tensor, weights: Tensor) -> Tensor:
    """Return where the classifier would look, from 0 to 1.

    Parameters
    ----------
    features : Tensor, shape (B, C, h, w)
        Features.
    weights : Tensor, shape (n, C h w)
        Weights of the linear layer that classifies features of that shape.

    Returns
    -------
    Tensor, shape (B, 1, h, w)
        The mean over classes of their maps.

    Notes
    -----
    The map of class c is ``mean_k(weights[c, k] features[k])`` over the channels k, cell by cell,
    stretched to 0 ... 1; a flat one is 0. The published code divides by the range without looking,
    which is not a number for a flat map.
    """
    by_class = weights.view(1, len(weights), *features.shape[1:])
    maps = (by_class * features[:, None]).mean(dim=2)
    low = maps.amin(dim=(2, 3), keepdim=True)
    extent = maps.amax(dim=(2, 3), keepdim=True) - low
    return ((maps - low) / extent.clamp_min(_FLAT)).mean(dim=1, keepdim=True)
