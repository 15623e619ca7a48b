"""What the small baselines have in common: one picture in, the scores of the classes out."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from mer_prep.checks import check_option

#: How pictures are normalised; see `PictureNetwork.measure`.
CENTRES = ("none", "mean-image", "standard", "bytes")


class PictureNetwork(nn.Module):
    """A network that sees one picture of every clip, normalised by the training pictures.

    What it is normalised by are buffers and lies in every checkpoint beside the weights. Before
    `measure` pictures are seen as they are.

    Parameters
    ----------
    channels : int
        Channels C of the pictures.
    side : int
        Their side S, px.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, side, side))
        self.register_buffer("deviation", torch.ones(channels, 1, 1))

    def measure(self, pictures: Tensor, *, centre: str) -> None:
        """Take the normalisation from the training pictures.

        Parameters
        ----------
        pictures : Tensor, shape (N, C, S, S), float32
            One picture of every training clip.
        centre : {'none', 'mean-image', 'standard', 'bytes'}
            Nothing; the mean picture is subtracted, pixel by pixel; or the mean of every channel
            is, and what is left divided by its standard deviation; or nothing is subtracted and 1
            becomes 255, as in codes that read pictures of 8 bits.

        Raises
        ------
        ConfigError
            If `centre` is not known.
        """
        check_option("centre", centre, CENTRES)
        values = pictures.double()
        if centre == "mean-image":
            self.mean.copy_(values.mean(dim=0))
        if centre == "bytes":
            self.deviation.fill_(1 / 255)
        if centre == "standard":
            self.mean.copy_(values.mean(dim=(0, 2, 3), keepdim=True)[0].expand_as(self.mean))
            spread = values.std(dim=(0, 2, 3), correction=0)
            # A channel without contents stays what it is.
            self.deviation.copy_(torch.where(spread > 0, spread, 1.0).view(-1, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the scores of the classes, before the softmax.

        Parameters
        ----------
        pictures : Tensor, shape (B, C, S, S), float32
            The pictures as they are stored.

        Returns
        -------
        Tensor, shape (B, n)
            Scores.
        """
        return self.scores((pictures - self.mean) / self.deviation)

    @abstractmethod
    def scores(self, pictures: Tensor) -> Tensor:
        """Return the scores (B, n) of normalised pictures (B, C, S, S)."""
