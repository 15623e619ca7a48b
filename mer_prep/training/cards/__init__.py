"""The models that can be trained, as far as they are known without building them."""

from __future__ import annotations

from mer_prep.checks import check_option
from mer_prep.training.cards.baselines import HTNET, OFF_APEXNET, RCN_A, RESNET18, STSTNET
from mer_prep.training.cards.bi_woof_svm import BI_WOOF_SVM
from mer_prep.training.cards.frl_dgt import FRL_DGT
from mer_prep.training.cards.lbp_top_svm import LBP_TOP_SVM
from mer_prep.training.cards.meta_mmfnet import META_MMFNET
from mer_prep.training.cards.mol import MOL
from mer_prep.training.cards.selfme import SELFME
from mer_prep.training.cards.survey import SURVEY
from mer_prep.training.recipes import ModelCard

#: Models by name, in the order of lists.
MODELS: dict[str, ModelCard] = {
    one.name: one
    for one in (
        *(MOL, FRL_DGT, SELFME, META_MMFNET),
        *(SURVEY, STSTNET, OFF_APEXNET, RCN_A, HTNET, RESNET18),
        *(LBP_TOP_SVM, BI_WOOF_SVM),
    )
}


def model_card(name: str) -> ModelCard:
    """Return what is known of a model; an unknown name is an error that suggests the nearest."""
    check_option("model", name, MODELS)
    return MODELS[name]
