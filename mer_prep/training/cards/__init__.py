"""The models that can be trained, as far as they are known without building them."""

from __future__ import annotations

from mer_prep.checks import check_option
from mer_prep.training.cards.frl_dgt import FRL_DGT
from mer_prep.training.cards.mol import MOL
from mer_prep.training.cards.selfme import SELFME
from mer_prep.training.recipes import ModelCard

#: Models by name, in the order of lists.
MODELS: dict[str, ModelCard] = {one.name: one for one in (MOL, FRL_DGT, SELFME)}


def model_card(name: str) -> ModelCard:
    """Return what is known of a model; an unknown name is an error that suggests the nearest."""
    check_option("model", name, MODELS)
    return MODELS[name]
