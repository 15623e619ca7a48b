"""The methods that can be trained; each says what the engine must know of its model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mer_prep.config import make_params
from mer_prep.training.cards import model_card
from mer_prep.training.methods.base import Method, Stretch
from mer_prep.training.methods.baselines import (
    HtnetMethod,
    OffApexNetMethod,
    RcnMethod,
    ResNet18Method,
    StstnetMethod,
    SurveyMethod,
)
from mer_prep.training.methods.frl_dgt import FrlDgtMethod
from mer_prep.training.methods.meta_mmfnet import MetaMmfnetMethod
from mer_prep.training.methods.mol import MolMethod
from mer_prep.training.methods.selfme import SelfmeMethod
from mer_prep.training.methods.svm import BiWoofSvmMethod, LbpTopSvmMethod

__all__ = ["METHODS", "Method", "Stretch", "architecture", "method_of"]

#: Methods by name; the same names as `mer_prep.training.cards.MODELS`.
METHODS: dict[str, type[Method]] = {
    one.name: one
    for one in (
        MolMethod,
        FrlDgtMethod,
        SelfmeMethod,
        MetaMmfnetMethod,
        SurveyMethod,
        StstnetMethod,
        OffApexNetMethod,
        RcnMethod,
        HtnetMethod,
        ResNet18Method,
        LbpTopSvmMethod,
        BiWoofSvmMethod,
    )
}


def method_of(name: str, config: Any) -> Method:
    """Return a method with an architecture; an unknown name is an error that suggests another."""
    model_card(name)
    return METHODS[name](config)


def architecture(name: str, preset: str, changes: Mapping[str, Any] | None = None) -> Any:
    """Return the architecture of a preset, with changes.

    Parameters
    ----------
    name, preset : str
        The method and the preset.
    changes : mapping, optional
        Values by name; texts become what the field needs.

    Raises
    ------
    ConfigError
        If a name or value is not known.
    """
    model_card(name).preset(preset)
    kind = METHODS[name]
    return make_params(
        kind.Config, dataclasses.asdict(kind.presets[preset]) | dict(changes or {}), where=name
    )
