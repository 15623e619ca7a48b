"""FRL-DGT put together: displacement, regions, three levels of fusion, classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mer_prep.checks import check_range
from mer_prep.models.frl_dgt.config import FrlDgtConfig
from mer_prep.models.frl_dgt.displacement import (
    DisplacementGenerator,
    dynamic_feature,
    normalised_field,
)
from mer_prep.models.frl_dgt.fusion import TokenFusion
from mer_prep.models.frl_dgt.regions import (
    REGIONS,
    action_unit_boxes,
    crop_regions,
    grid_boxes,
)

#: The normalisation of dynamic features amplifies deviations below this many px no further.
STILL = 0.1


@dataclass
class FrlDgtOutput:
    """What FRL-DGT gives for B pairs.

    Parameters
    ----------
    logits : Tensor, shape (B, n)
        Scores of the classes, before the softmax; (B, 0) where none were asked for.
    displacement : Tensor, shape (B, 2, S, S), or None
        Learned field (u, v) in px; the pixel p of the apex was at ``p + D(p)`` in the onset.
    attention : Tensor, shape (B, 9), or None
        How much each region counts for the global fusion; sums to 1, without gradient.
    """

    logits: Tensor
    displacement: Tensor | None
    attention: Tensor | None


class PatchEmbedding(nn.Module):
    """Convolutions that turn dynamic features into tokens.

    Regions and the full face go through the same three convolutions of stride 2, the full face
    through one more. Channels are first brought to one scale over the batch, because motion in
    px is small against the initial weights; sizes of motion between clips stay comparable.

    Parameters
    ----------
    width : int
        Length d of a token.
    full_face : bool
        Whether the full face is asked for.
    """

    def __init__(self, width: int, *, full_face: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, eps=STILL**2)
        self.layers = nn.Sequential(
            nn.Conv2d(3, width // 4, 3, 2, 1),
            nn.GELU(),
            nn.Conv2d(width // 4, width // 2, 3, 2, 1),
            nn.GELU(),
            nn.Conv2d(width // 2, width, 3, 2, 1),
        )
        self.further = (
            nn.Sequential(nn.GELU(), nn.Conv2d(width, width, 3, 2, 1)) if full_face else None
        )

    def regions(self, crops: Tensor) -> Tensor:
        """Return tokens (B, K, (s / 8)^2, d) of crops (B, K, 3, s, s)."""
        maps = self.layers(crops.flatten(0, 1))
        return maps.flatten(2).transpose(1, 2).unflatten(0, crops.shape[:2])

    def face(self, feature: Tensor) -> Tensor:
        """Return tokens (B, (S / 16)^2, d) of features (B, 3, S, S)."""
        assert self.further is not None
        return self.further(self.layers(feature)).flatten(2).transpose(1, 2)


class FrlDgt(nn.Module):
    """The whole of FRL-DGT.

    Parameters
    ----------
    config : FrlDgtConfig
        The architecture.
    classes : int
        Number of classes n, 2 or more.

    Notes
    -----
    Without local fusion a region is the mean of its tokens; without global fusion the face is
    the mean of its regions; without full-face fusion the head sees only what the regions say.
    """

    def __init__(self, config: FrlDgtConfig, classes: int) -> None:
        super().__init__()
        check_range("classes", classes, low=2)
        self.config, self.classes = config, classes
        width = config.width

        def fusion(tokens: int, layers: int) -> TokenFusion:
            return TokenFusion(
                tokens,
                layers=layers,
                width=width,
                heads=config.heads,
                dropout=config.dropout,
                fusion=config.fusion,
            )

        self.displacement = (
            DisplacementGenerator(
                scale=config.scale,
                largest=config.largest,
                guess=config.guess,
                symmetric=config.symmetric,
            )
            if config.learned
            else None
        )
        self.embedding = PatchEmbedding(width, full_face=config.full_face)
        self.region_embedding = nn.Parameter(0.02 * torch.randn(len(REGIONS), 1, width))
        self.local = fusion((config.region_size // 8) ** 2, 1) if config.local_fusion else None
        self.global_ = fusion(len(REGIONS), config.layers) if config.global_fusion else None
        self.face = fusion((config.side // 16) ** 2, config.layers) if config.full_face else None
        seen = 2 * width if config.full_face else width
        self.head = nn.Sequential(
            nn.LayerNorm(seen), nn.Dropout(config.head_dropout), nn.Linear(seen, classes)
        )

    def forward(
        self,
        frames: Tensor,
        landmarks: Tensor,
        flow: Tensor | None = None,
        image: Tensor | None = None,
        *,
        recognise: bool = True,
    ) -> FrlDgtOutput:
        """Return classes, displacement and attention.

        Parameters
        ----------
        frames : Tensor, shape (B, 2, 3, S, S), float
            Onset and apex in [0, 1].
        landmarks : Tensor, shape (B, 2, 68, 2), float
            Landmarks (x, y) in px of both frames; regions lie around those of the onset.
        flow : Tensor, shape (B, 1, 2, S, S), float, or None
            TV-L1 flow in px from onset to apex; needed by ``displacement`` 'tvl1' and
            'tvl1-normalised'.
        image : Tensor, shape (B, 3, S, S), float, or None
            Dynamic image, any scale: each is divided by its own largest absolute value. Needed
            by 'dynamic-image'.
        recognise : bool
            Whether classes are wanted; otherwise only the displacement is computed.

        Raises
        ------
        ValueError
            If the flow or the image that the architecture needs is not given.
        """
        displacement = None if self.displacement is None else self.displacement(frames)
        if not recognise:
            return FrlDgtOutput(frames.new_zeros(len(frames), 0), displacement, None)
        feature = self.embedding.norm(self._dynamic_feature(displacement, flow, image))
        regions, attention = self._regions(feature, landmarks)
        seen = [regions]
        if self.face is not None:
            seen.append(self.face(self.embedding.face(feature))[0])
        return FrlDgtOutput(self.head(torch.cat(seen, dim=1)), displacement, attention)

    def _dynamic_feature(
        self, displacement: Tensor | None, flow: Tensor | None, image: Tensor | None
    ) -> Tensor:
        """Return the dynamic feature, (B, 3, S, S), of whatever the architecture makes it of."""
        kind = self.config.displacement
        if kind == "dynamic-image":
            if image is None:
                raise ValueError("displacement = 'dynamic-image' needs dynamic images")
            largest = image.abs().amax(dim=(1, 2, 3), keepdim=True)
            return image / largest.clamp(min=torch.finfo(image.dtype).tiny)
        if displacement is None:
            if flow is None:
                raise ValueError(f"displacement = {kind!r} needs optical flow")
            displacement = flow[:, 0]
            if kind == "tvl1-normalised":
                displacement = normalised_field(displacement)
        return dynamic_feature(displacement, kind=self.config.feature)

    def _regions(self, feature: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the fused regions, (B, d), and how much each counted, (B, 9) or None."""
        side = feature.shape[-1]
        if self.config.regions == "grid":
            boxes = grid_boxes(len(feature), side=side, device=feature.device)
        else:
            boxes = action_unit_boxes(landmarks[:, 0], side=side)
        # In mixed precision too: rounded corners would move by a quarter of a pixel.
        crops = crop_regions(feature.float(), boxes.float(), size=self.config.region_size)
        tokens = self.embedding.regions(crops) + self.region_embedding
        if self.local is None:
            regions = tokens.mean(2)
        else:
            regions = self.local(tokens.flatten(0, 1))[0].unflatten(0, tokens.shape[:2])
        return (regions.mean(1), None) if self.global_ is None else self.global_(regions)
