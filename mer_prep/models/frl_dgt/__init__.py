"""FRL-DGT: adaptive displacement generation and transformer fusion, from an onset and an apex.

A re-implementation after the paper's abstract and poster; no code of the authors is known. What
those do not say is chosen here, and every module says what that is.

References
----------
Z. Zhai, J. Zhao, C. Long, W. Xu, S. He, H. Zhao, "Feature Representation Learning with Adaptive
Displacement Generation and Transformer Fusion for Micro-Expression Recognition", CVPR 2023.
doi:10.1109/CVPR52729.2023.02115 (arXiv:2304.04420)
"""

from mer_prep.models.frl_dgt.config import DISPLACEMENTS, PRESETS, FrlDgtConfig
from mer_prep.models.frl_dgt.displacement import (
    DisplacementGenerator,
    dynamic_feature,
    normalised_field,
)
from mer_prep.models.frl_dgt.model import FrlDgt, FrlDgtOutput
from mer_prep.models.frl_dgt.objective import WEIGHTS, self_supervision
from mer_prep.models.frl_dgt.regions import (
    MIRRORED_REGIONS,
    REGIONS,
    action_unit_boxes,
    crop_regions,
    grid_boxes,
)
from mer_prep.models.frl_dgt.warp import invert, mirror_field, warp

__all__ = [
    "DISPLACEMENTS",
    "MIRRORED_REGIONS",
    "PRESETS",
    "REGIONS",
    "WEIGHTS",
    "DisplacementGenerator",
    "FrlDgt",
    "FrlDgtConfig",
    "FrlDgtOutput",
    "action_unit_boxes",
    "crop_regions",
    "dynamic_feature",
    "grid_boxes",
    "invert",
    "mirror_field",
    "normalised_field",
    "self_supervision",
    "warp",
]
