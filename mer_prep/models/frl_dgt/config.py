"""The architectures of FRL-DGT: the paper's, its ablations and a small one."""

from __future__ import annotations

from dataclasses import dataclass

from mer_prep.checks import check_option, check_range
from mer_prep.errors import ConfigError
from mer_prep.models.frl_dgt.displacement import FEATURES
from mer_prep.models.frl_dgt.fusion import FUSIONS

#: What the dynamic feature is made of: a learned displacement, or one of its replacements.
DISPLACEMENTS = ("learned", "tvl1", "tvl1-normalised", "dynamic-image")

#: Which parts of the face the local and global fusions see.
REGION_KINDS = ("action-units", "grid")

#: The full face is halved four times, a region three times.
SIDE_MULTIPLE = 16
REGION_MULTIPLE = 8


@dataclass(frozen=True)
class FrlDgtConfig:
    """The architecture of FRL-DGT, with the ablations M0 to M8 of the paper's Table 2.

    Which switches there are is the paper's; all sizes are chosen here.

    Parameters
    ----------
    side : int
        Side S of the frames in px, a multiple of 16.
    displacement : {'learned', 'tvl1', 'tvl1-normalised', 'dynamic-image'}
        What the dynamic feature is made of: the displacement generation module; TV-L1 optical
        flow (M0); the same, each field normalised by its own size (M1); or a dynamic image (M2).
    self_supervised : bool
        Whether a learned displacement also minimises `objective.self_supervision` (M3 without).
        It changes the training and no layer.
    fusion : {'before', 'after'}
        Whether tokens are fused before attention, or after it (M4).
    regions : {'action-units', 'grid'}
        Nine regions of action units, or 3 x 3 patches of the picture (M5).
    full_face : bool
        Whether there is full-face fusion (M6 without); without it the head sees the regions
        alone.
    local_fusion : bool
        Whether the tokens of a region are fused by attention (M7 without); otherwise by their
        mean.
    global_fusion : bool
        Whether the regions are fused by attention (M8 without); otherwise by their mean.
    feature : {'magnitude', 'strain'}
        Third channel of the dynamic feature of a motion field.
    guess : bool
        Whether the displacement starts from guesses in closed form; see
        `displacement.DisplacementGenerator`.
    symmetric : bool
        See `displacement.DisplacementGenerator`.
    scale : float
        Factor of the widths of the displacement generation module.
    largest : float
        Largest component of a learned displacement in px.
    region_size : int
        Side in px to which regions are cropped, a multiple of 8.
    width : int
        Length d of a token, a multiple of 4 and of `heads`.
    heads : int
        Heads of the attention.
    layers : int
        Layers of the global and of the full-face fusion; the local one has one.
    dropout : float
        Part of the features of the transformers left out in training.
    head_dropout : float
        The same before the last layer.
    """

    side: int = 128
    displacement: str = "learned"
    self_supervised: bool = True
    fusion: str = "before"
    regions: str = "action-units"
    full_face: bool = True
    local_fusion: bool = True
    global_fusion: bool = True
    feature: str = "magnitude"
    guess: bool = True
    symmetric: bool = False
    scale: float = 1.0
    largest: float = 4.0
    region_size: int = 32
    width: int = 128
    heads: int = 4
    layers: int = 2
    dropout: float = 0.1
    head_dropout: float = 0.5

    def __post_init__(self) -> None:
        check_range("side", self.side, low=SIDE_MULTIPLE, high=1024)
        check_option("displacement", self.displacement, DISPLACEMENTS)
        check_option("fusion", self.fusion, FUSIONS)
        check_option("regions", self.regions, REGION_KINDS)
        check_option("feature", self.feature, FEATURES)
        check_range("scale", self.scale, low=0.01, high=4)
        check_range("largest", self.largest, low=0, high=1000, open_low=True)
        check_range("region_size", self.region_size, low=REGION_MULTIPLE, high=1024)
        check_range("width", self.width, low=4, high=8192)
        check_range("heads", self.heads, low=1, high=64)
        check_range("layers", self.layers, low=1, high=64)
        check_range("dropout", self.dropout, low=0, high=0.95)
        check_range("head_dropout", self.head_dropout, low=0, high=0.95)
        for name, multiple in (
            ("side", SIDE_MULTIPLE),
            ("region_size", REGION_MULTIPLE),
            ("width", 4),
            ("width", self.heads),
        ):
            if getattr(self, name) % multiple:
                raise ConfigError(
                    f"Invalid value for '{name}': {getattr(self, name)}.",
                    hint=f"choose a multiple of {multiple}",
                )
        if not (self.full_face or self.local_fusion or self.global_fusion):
            raise ConfigError(
                "FRL-DGT needs at least one of its fusions.",
                hint="switch on 'full_face', 'local_fusion' or 'global_fusion'",
            )

    @property
    def learned(self) -> bool:
        """Whether the displacement is learned."""
        return self.displacement == "learned"


#: Architectures by name. `tiny` is for tests and demos.
PRESETS: dict[str, FrlDgtConfig] = {
    "paper": FrlDgtConfig(),
    "tiny": FrlDgtConfig(
        scale=0.125, region_size=16, width=32, heads=2, layers=1, head_dropout=0.2
    ),
}
