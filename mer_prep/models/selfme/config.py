"""The architectures of SelfME: the paper's, its ablations and a small one."""

from __future__ import annotations

from dataclasses import dataclass

from mer_prep.checks import check_option, check_range
from mer_prep.errors import ConfigError
from mer_prep.models.selfme.contrast import CONTRASTED

#: Where the motion comes from.
MOTIONS = ("learned", "tvl1")

#: Where B-splines take part in the learned motion.
SPLINES = ("ffd", "equivariance", "off")

#: The two classifiers: with regions that are contrasted, and without.
CLASSIFIERS = ("scvit", "vit")

#: What lies in the middle between the left and the right regions.
MIDLINES = ("landmarks", "centre")

#: Which clips the motion is learned from.
STAGE1 = ("train-only", "all")


@dataclass(frozen=True)
class SelfmeConfig:
    """The architecture of SelfME, and the switches of its ablations.

    The parts, `omega`, `tau` and `gamma` are the paper's; all sizes are chosen here.

    Parameters
    ----------
    side : int
        Side S of the frames in px.
    motion : {'learned', 'tvl1'}
        Motion of the first stage, or TV-L1 optical flow in its place.
    bspline : {'ffd', 'equivariance', 'off'}
        Where B-splines take part in the learned motion: a free-form deformation that is added to
        the dense field; the random warps of the equivariance constraint, in place of thin plates;
        or nowhere.
    classifier : {'scvit', 'vit'}
        Vision transformer over four regions with the symmetric contrastive loss, or a plain one.
    gamma : float
        Factor by which the motion is amplified; 1 leaves it.
    jitter : float
        In training each sample is amplified by gamma times 1 - jitter ... 1 + jitter.
    omega : float
        Weight of the symmetric contrastive loss beside the classes.
    tau : float
        Its temperature.
    contrasted : {'symmetric', 'all'}
        Pairs of regions that it contrasts: each with itself and its mirror image, or all.
    midline : {'landmarks', 'centre'}
        Where left and right regions meet: the middle of the landmarks, or of the picture.
    stage1 : {'train-only', 'all'}
        Clips whose frames the motion is learned from. With 'all' those of the test subject are
        among them, without their labels: the result is TRANSDUCTIVE and says so.
    key_points : int
        Key points K.
    first_order : bool
        Whether a key point also has a Jacobian, so that its sparse motion is affine.
    occlusion : bool
        Whether a map of what the onset cannot show weighs the features that rebuild the apex.
    control_points : int
        Control points of the free-form deformation along a side, 4 or more.
    shrink : int
        Px that become one in the networks of key points and dense motion; the field is
        interpolated back.
    key_point_width, motion_width, decoder_width : int
        Feature maps of the first layer of each network.
    widest : int
        Most feature maps of a layer.
    blocks : int
        Halvings of the networks of key points and dense motion.
    residual_blocks : int
        Residual blocks of the network that rebuilds the apex.
    patch : int
        Side of a patch in px; a region has a whole number of them.
    width : int
        Length d of a token.
    layers, heads : int
        Layers of the transformer, and heads of each.
    hidden : int
        Width of their hidden layers.
    projection : int
        Length of the features that are contrasted.
    dropout : float
        Part of the features left out in training.
    """

    side: int = 128
    motion: str = "learned"
    bspline: str = "ffd"
    classifier: str = "scvit"
    gamma: float = 2.0
    jitter: float = 0.5
    omega: float = 0.11
    tau: float = 0.07
    contrasted: str = "symmetric"
    midline: str = "landmarks"
    stage1: str = "train-only"
    key_points: int = 10
    first_order: bool = True
    occlusion: bool = True
    control_points: int = 8
    shrink: int = 2
    key_point_width: int = 32
    motion_width: int = 64
    decoder_width: int = 64
    widest: int = 256
    blocks: int = 4
    residual_blocks: int = 2
    patch: int = 8
    width: int = 256
    layers: int = 4
    heads: int = 4
    hidden: int = 512
    projection: int = 128
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name, options in (
            ("motion", MOTIONS),
            ("bspline", SPLINES),
            ("classifier", CLASSIFIERS),
            ("contrasted", CONTRASTED),
            ("midline", MIDLINES),
            ("stage1", STAGE1),
        ):
            check_option(name, getattr(self, name), options)
        check_range("side", self.side, low=16, high=1024)
        check_range("gamma", self.gamma, low=0, high=100, open_low=True)
        check_range("jitter", self.jitter, low=0, high=1)
        check_range("omega", self.omega, low=0)
        check_range("tau", self.tau, low=1e-3, high=100)
        check_range("key_points", self.key_points, low=1, high=1024)
        check_range("control_points", self.control_points, low=4, high=64)
        check_range("shrink", self.shrink, low=1, high=16)
        for name in ("key_point_width", "motion_width", "decoder_width", "widest"):
            check_range(name, getattr(self, name), low=2, high=4096)
        check_range("blocks", self.blocks, low=1, high=8)
        check_range("residual_blocks", self.residual_blocks, low=0, high=64)
        for name in ("patch", "width", "layers", "heads", "hidden", "projection"):
            check_range(name, getattr(self, name), low=1, high=8192)
        check_range("dropout", self.dropout, low=0, high=0.95)
        for name, multiple in (
            ("side", 2 * self.patch),
            ("side", self.shrink * 2**self.blocks if self.learned else 1),
            ("side", 4 if self.learned else 1),
            ("width", self.heads),
        ):
            if getattr(self, name) % multiple:
                raise ConfigError(
                    f"Invalid value for '{name}': {getattr(self, name)}.",
                    why="regions are cut into whole patches, and networks halve whole pictures",
                    hint=f"choose a multiple of {multiple}",
                )

    @property
    def learned(self) -> bool:
        """Whether the motion is learned."""
        return self.motion == "learned"

    @property
    def contrasts(self) -> bool:
        """Whether the classifier has regions, and contrasts them."""
        return self.classifier == "scvit"


#: Architectures by name. The last two are for tests and demos: `tiny` leaves the motion stage out.
PRESETS: dict[str, SelfmeConfig] = {
    "paper": SelfmeConfig(),
    "tiny": SelfmeConfig(
        side=64, motion="tvl1", width=64, layers=2, heads=2, hidden=128, projection=32
    ),
    "tiny-learned": SelfmeConfig(
        side=64,
        key_points=5,
        key_point_width=8,
        motion_width=8,
        decoder_width=8,
        widest=32,
        blocks=3,
        residual_blocks=1,
        width=64,
        layers=2,
        heads=2,
        hidden=128,
        projection=32,
    ),
}
