"""The paragraph that a paper needs to say which clips, labels and folds it used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mer_prep.config import canonical_json


def composite_report(facts: Mapping[str, Any]) -> str:
    """Return what a paper must report of a composite, as one paragraph.

    Parameters
    ----------
    facts : mapping
        What ``composite.json`` says (see `mer_prep.composite_files.write_composite`).
    """
    whole = facts["counts"]["all"]
    corpora = [name for name in facts["counts"] if name != "all"]
    annotations = facts["annotations"]
    parts = ", ".join(
        f"{name} {facts['counts'][name]['clips']} (annotation {annotations.get(name, 'unknown')})"
        for name in corpora
    )
    mark = "SYNTHETIC clips: these are no scores of a corpus. " if facts["synthetic"] else ""
    return (
        f"{mark}Clips were prepared with mer-prep {facts['mer_prep']} under the label map "
        f"{facts['labels']} (rules {facts['labels_sha256'][:16]}): {whole['clips']} clips of "
        f"{whole['subjects']} subjects ({parts}), clip list SHA-256 {whole['sha256']}. "
        f"{_draw(facts)}{_protocol(facts)} {_settings(facts)}"
    )


def _draw(facts: Mapping[str, Any]) -> str:
    draw = facts["draw"]
    if draw is None:
        return ""
    return f"{draw['per_class']} clips of every class were drawn with seed {draw['seed']}. "


def _protocol(facts: Mapping[str, Any]) -> str:
    protocol = facts["protocol"]
    seed = f", seed {protocol['seed']}" if "seed" in protocol else ""
    sides = ""
    if "train" in protocol:
        train, test = " and ".join(protocol["train"]), " and ".join(protocol["test"])
        sides = f", trained on {train} and tested on {test}"
    if not facts["folds"]:
        return f"There are no folds by {protocol['name']}: all clips are of one subject."
    count = f"{facts['folds']} fold{'' if facts['folds'] == 1 else 's'}"
    return (
        f"The protocol is {protocol['name']}{sides}{seed}, {count}, folds SHA-256 "
        f"{facts['folds_sha256']}."
    )


def _settings(facts: Mapping[str, Any]) -> str:
    """Return the parameters of alignment and flow, and where the apex comes from."""
    pipeline = facts["pipeline"]
    if pipeline is None:
        return (
            "Alignment, flow and the choice of the apex are not stated: no pipeline was named "
            "(composite --pipeline NAME)."
        )
    stages = pipeline["stages"]
    stated = [
        f"{name} version {stages[name]['version']} {canonical_json(stages[name]['params'])}"
        for name in ("align", "flow")
        if name in stages
    ]
    apex = [
        f"{name} {one['params']['apex']}" for name, one in stages.items() if "apex" in one["params"]
    ]
    policy = f" The apex is, by stage: {', '.join(apex)}." if apex else " No apex is used."
    settings = "; ".join(stated) or "neither alignment nor flow"
    return f"The pipeline is {pipeline['name']}: {settings}.{policy}"
