"""The baseline of the survey: one shallow stream over the apex frame.

References
----------
.. [1] W. Gong, Y. An, N. M. Elfiky, "Deep learning-based microexpression recognition: a survey",
   Neural Computing and Applications 34, 2022. doi:10.1007/s00521-022-07157-w
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mer_prep.checks import check_option, check_range
from mer_prep.models.picture import CENTRES
from mer_prep.models.ststnet import ShallowStreams

INPUTS = ("apex", "flow")
GRAYS = ("replicate", "r-only")


@dataclass(frozen=True)
class SurveyConfig:
    """The architecture of the baseline; the defaults are the published network's.

    Parameters
    ----------
    side : int
        Side of the pictures, px.
    input : {'apex', 'flow'}
        The apex frame in colour, 0 to 255; or u, v and strain from onset to apex, 0 to 1.
    gray : {'replicate', 'r-only'}
        What a grey apex frame is in colour: three equal channels; or, as in the published code,
        the red one alone and zeros, by which a network tells grey corpora from others.
    filters : int
        Filters of the convolution.
    dropout : float
        Part of the features left out in training.
    centre : {'none', 'mean-image', 'standard', 'bytes'}
        What the training pictures normalise; see
        `mer_prep.models.picture.PictureNetwork.measure`.
    """

    side: int = 28
    input: str = "apex"
    gray: str = "replicate"
    filters: int = 5
    dropout: float = 0.5
    centre: str = "mean-image"

    def __post_init__(self) -> None:
        check_range("side", self.side, low=6, high=1024)
        check_option("input", self.input, INPUTS)
        check_option("gray", self.gray, GRAYS)
        check_range("filters", self.filters, low=1, high=512)
        check_range("dropout", self.dropout, low=0, high=0.95)
        check_option("centre", self.centre, CENTRES)


#: Architectures by name. `code` fills one channel of grey frames, as the published code does.
PRESETS: dict[str, SurveyConfig] = {
    "paper": SurveyConfig(),
    "code": SurveyConfig(gray="r-only"),
    "tiny": SurveyConfig(input="flow", dropout=0.2, centre="standard"),
}


class SurveyBaseline(ShallowStreams):
    """The baseline: 654 parameters with four classes, 1,284 with nine."""

    def __init__(self, config: SurveyConfig, classes: int) -> None:
        super().__init__(
            (config.filters,), side=config.side, dropout=config.dropout, classes=classes
        )
        # The initialiser of the trainer it was published with; that of PyTorch is another.
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
