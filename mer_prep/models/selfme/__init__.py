"""SelfME: self-supervised motion, and a symmetric contrastive vision transformer.

A re-implementation after the paper's slides; no code of the authors is known. What the slides do
not say is chosen here, and every module says what that is.

References
----------
X. Fan, X. Chen, M. Jiang, A. R. Shahid, H. Yan, "SelfME: Self-Supervised Motion Learning for
Micro-Expression Recognition", CVPR 2023. doi:10.1109/CVPR52729.2023.01329
"""

from mer_prep.models.selfme.config import PRESETS, SelfmeConfig
from mer_prep.models.selfme.contrast import symmetric_contrast
from mer_prep.models.selfme.model import Selfme, SelfmeOutput
from mer_prep.models.selfme.objective import WEIGHTS
from mer_prep.models.selfme.regions import REGIONS, face_midline, region_boxes, split_regions

__all__ = [
    "PRESETS",
    "REGIONS",
    "WEIGHTS",
    "Selfme",
    "SelfmeConfig",
    "SelfmeOutput",
    "face_midline",
    "region_boxes",
    "split_regions",
    "symmetric_contrast",
]
