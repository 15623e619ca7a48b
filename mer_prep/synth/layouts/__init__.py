"""The layouts of the real corpora: folders, frame names, annotation workbooks and their quirks.

Synthetic corpora and test trees are written through these, so that an importer that reads them
reads the real thing. Frame numbers, cells and clips are the caller's; only the form is real.
A corpus is one module with one `Layout`, entered in `LAYOUTS`.
"""

from __future__ import annotations

from mer_prep.synth.layouts.affwild2 import AffWild2Layout
from mer_prep.synth.layouts.base import Layout, PlannedClip
from mer_prep.synth.layouts.casme import CasmeLayout
from mer_prep.synth.layouts.casme2 import Casme2Layout
from mer_prep.synth.layouts.casme3 import Casme3Layout
from mer_prep.synth.layouts.casme_sq import CasmeSqLayout
from mer_prep.synth.layouts.four_dme import FourDmeLayout
from mer_prep.synth.layouts.mmew import MmewLayout
from mer_prep.synth.layouts.samm import SammLayout
from mer_prep.synth.layouts.samm_lv import SammLvLayout
from mer_prep.synth.layouts.smic import SmicLayout

__all__ = ["LAYOUTS", "Layout", "PlannedClip"]

LAYOUTS: dict[str, Layout] = {
    layout.corpus: layout
    for layout in (
        Casme2Layout(),
        SammLayout(),
        SmicLayout(),
        CasmeLayout(),
        CasmeSqLayout(),
        MmewLayout(),
        FourDmeLayout(),
        Casme3Layout(),
        SammLvLayout(),
        AffWild2Layout(),
    )
}
