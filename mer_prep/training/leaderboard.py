"""Several models on the same folds: their scores side by side, and what every line rests on."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mer_prep import __version__
from mer_prep.checks import suggest
from mer_prep.errors import ConfigError, ManifestError
from mer_prep.metrics import SCORES, holm, largest_class
from mer_prep.protocols import folds_digest
from mer_prep.store.key import digest
from mer_prep.training.cards import model_card
from mer_prep.training.compare import compare_runs, parameters
from mer_prep.training.results import fold_facts, read_predictions, score_rows, training_seconds
from mer_prep.training.selection import leaks_of
from mer_prep.training.study import Study

#: Version of what `leaderboard_facts` gives.
SCHEMA = 1


@dataclass(frozen=True)
class Entrant:
    """A finished run, and its control.

    Parameters
    ----------
    run : Path
        Folder of the run.
    study : Study
        Its study.
    control : tuple of (Path, Study), optional
        The same with shuffled labels.
    """

    run: Path
    study: Study
    control: tuple[Path, Study] | None = None


def check_comparable(first: tuple[str, Study], other: tuple[str, Study]) -> None:
    """Check that two runs answer the same question on the same folds.

    Parameters
    ----------
    first, other : tuple of (str, Study)
        Names and studies.

    Raises
    ------
    ManifestError
        If label maps, clips, their frames, labels or folds are not the same; the first that is
        not is named.
    """
    (name, study), (other_name, other_study) = first, other

    def refuse(what: str) -> None:
        raise ManifestError(
            f"{other_name} does not stand on the folds of {name}: {what}.",
            where=other_name,
            why="scores of other clips, labels or folds are no measure of which model is better",
            hint="leave it out, or train it with the same corpora, labels and protocol",
        )

    if (study.labels, study.classes) != (other_study.labels, other_study.classes):
        refuse(f"its labels are {other_study.labels}, not {study.labels}")
    mine = {one.clip_id: one for one in study.clips}
    theirs = {one.clip_id: one for one in other_study.clips}
    for only, where in ((mine.keys() - theirs.keys(), name), (theirs.keys() - mine.keys(), "it")):
        if only:
            refuse(f"{_clips(len(only))} only in {where}, such as {min(only)}")
    for field, what in (("label", "other labels"), ("source_digest", "other frames")):
        unlike = [one for one in mine if getattr(mine[one], field) != getattr(theirs[one], field)]
        if unlike:
            refuse(f"{_clips(len(unlike))} there with {what}, such as {min(unlike)}")
    if study.protocol != other_study.protocol:
        refuse(f"its protocol is {other_study.protocol}, not {study.protocol}")
    if _folds(study) != _folds(other_study):
        refuse(f"its {len(other_study.folds)} folds test or train other clips")


def check_entrants(entrants: Sequence[Entrant], against: str | None) -> int | None:
    """Check, before anything is trained, that runs can stand in one table.

    Parameters
    ----------
    entrants : sequence of Entrant
        The runs; they need not be finished.
    against : str, optional
        As of `leaderboard_facts`.

    Returns
    -------
    int or None
        Which of them the others are compared with.

    Raises
    ------
    ManifestError
        If they cannot stand side by side, or one is a control.
    ConfigError
        As of `leaderboard_facts`.
    """
    for one in entrants:
        if one.study.shuffled:
            raise ManifestError(
                f"{one.run.name} is a control: its labels are shuffled.",
                where=one.run,
                why="its scores say nothing of the model",
                hint="leave it out; --shuffled trains controls and puts them beside their models",
            )
        check_comparable((entrants[0].run.name, entrants[0].study), (one.run.name, one.study))
    return None if against is None else _chosen(entrants, _names(entrants), against)


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"


def _folds(study: Study) -> set[tuple[frozenset[str], frozenset[str]]]:
    return {(frozenset(fold.train), frozenset(fold.test)) for fold in study.folds}


def leaderboard_facts(
    entrants: Sequence[Entrant],
    *,
    against: str | None = None,
    failed: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the table of several finished runs as plain values for JSON.

    All scores are made anew from the predictions that the folds stored. The order is that of UF1;
    LEAKY runs come last, whatever they score.

    Parameters
    ----------
    entrants : sequence of Entrant
        The runs, at least one.
    against : str, optional
        The model, ``model:preset`` or run that McNemar's test compares the others with.
    failed : mapping of str to str, optional
        What could not be trained, and why.

    Raises
    ------
    ManifestError
        If runs cannot stand side by side; see `check_comparable`.
    TrainingError
        If a run is not finished.
    ConfigError
        If `against` names none of them, several, or one that is LEAKY.
    """
    reference = check_entrants(entrants, against)
    names = _names(entrants)
    study = entrants[0].study
    label, baseline = largest_class([one.label for one in study.clips], study.classes)
    lines = [_line(one, name, baseline.uf1) for one, name in zip(entrants, names, strict=True)]
    if reference is not None:
        _compare(entrants, lines, reference)
    return {
        "schema": SCHEMA,
        "mer_prep": __version__,
        "synthetic": any(one.study.synthetic for one in entrants),
        "leaky": any(one.study.leaky for one in entrants),
        "transductive": any(one.study.method.transductive for one in entrants),
        "labels": study.labels,
        "protocol": study.protocol,
        "classes": list(study.classes),
        "clips": len(study.clips),
        "subjects": len({one.subject for one in study.clips}),
        "folds": len(study.folds),
        "corpora": sorted({one.corpus for one in study.clips}),
        "passport": {
            "clip_list": study.clip_lists.get("all", ""),
            "folds": folds_digest(study.folds),
            "sources": digest({one.clip_id: one.source_digest for one in study.clips}),
        },
        "against": next((one["name"] for one in lines if one["reference"]), None),
        "largest_class": {"class": label, **baseline.summary()},
        "entries": sorted(lines, key=lambda one: (one["leaky"], -one["scores"]["uf1"])),
        "failed": dict(failed or {}),
    }


def _names(entrants: Sequence[Entrant]) -> list[str]:
    """Return ``model:preset`` of every run, and the name of its folder where that is not one's.

    Folders of one name, in several workspaces, go by their paths.
    """
    short = [f"{one.study.model}:{one.study.preset}" for one in entrants]
    names = [
        name if short.count(name) == 1 else one.run.name
        for name, one in zip(short, entrants, strict=True)
    ]
    return [
        name if names.count(name) == 1 else str(one.run)
        for name, one in zip(names, entrants, strict=True)
    ]


def _line(entrant: Entrant, name: str, baseline: float) -> dict[str, Any]:
    """Return one line of the table."""
    run, study = entrant.run, entrant.study
    scores = score_rows(read_predictions(run, study), study)
    folds = fold_facts(run, study)
    low = scores["all"]["interval_95"]["uf1"][0]
    computed = [one["computed"] for one in folds.values()]
    return {
        "name": name,
        "run": run.name,
        "model": study.model,
        "preset": study.preset,
        "changed": study.method.changed(study.preset),
        "changed_training": _changed_training(study),
        "seed": study.seed,
        "selection": study.selection.kind,
        "leaky": study.leaky,
        "transductive": study.method.transductive,
        "synthetic": study.synthetic,
        "input": study.method.input,
        "parameters": parameters(study),
        "training_seconds": training_seconds(folds),
        "threads": sorted({one["threads"] for one in folds.values() if "threads" in one}),
        "devices": sorted({f"{one['device']}, {one['precision']}" for one in computed}),
        "scores": {one: scores["all"][one] for one in SCORES},
        "interval_95": scores["all"]["interval_95"],
        "parts": {
            part: {one: found[one] for one in SCORES}
            for part, found in scores.items()
            if part != "all"
        },
        # LEAKY scores beat nothing.
        "beats_largest_class": not study.leaky and low > baseline,
        "reference": False,
        "against": None,
        "control": None if entrant.control is None else _control(entrant),
        "published": _published(study),
    }


def _changed_training(study: Study) -> dict[str, Any]:
    """Return what a run was told of its training that its preset does not say, by name."""
    usual = study.method.settled(model_card(study.model).preset(study.preset).training)
    before, mine = dataclasses.asdict(usual), dataclasses.asdict(study.training)
    found = {name: value for name, value in mine.items() if value != before[name]}
    return found if study.init is None else found | {"init": "given weights"}


def changes_of(line: Mapping[str, Any]) -> str:
    """Return what of a line's run is not as in its preset, for people; empty if all is."""
    told = {**line["changed"], **line["changed_training"]}
    return ", ".join(f"{name}={value}" for name, value in told.items())


def _control(entrant: Entrant) -> dict[str, Any]:
    """Return what the model scores if labels say nothing of the clips."""
    assert entrant.control is not None
    run, study = entrant.control
    scores = score_rows(read_predictions(run, study), study)["all"]
    return {
        "run": run.name,
        "scores": {one: scores[one] for one in SCORES},
        "interval_95": scores["interval_95"],
    }


def _published(study: Study) -> list[dict[str, Any]]:
    """Return what is printed of a model under this protocol and label map, whatever the clips."""
    protocol = "loso" if study.protocol == "cde" else study.protocol
    changed = study.method.changed(study.preset)
    return [
        {
            "part": one.part,
            "scores": dict(one.scores),
            "source": one.source,
            "selected": one.selected,
        }
        for one in model_card(study.model).published
        if (one.labels, one.protocol) == (study.labels, protocol)
        and one.variant == changed
        and one.preset in (None, study.preset)
    ]


def _chosen(entrants: Sequence[Entrant], names: Sequence[str], given: str) -> int:
    """Return which entrant a name means."""
    meanings = [
        (str(one.run), one.run.name, name, f"{one.study.model}:{one.study.preset}", one.study.model)
        for one, name in zip(entrants, names, strict=True)
    ]
    # A run may be called like a model: its own name means it, and no other.
    tries = ([n for n, one in enumerate(meanings) if one[kind] == given] for kind in range(5))
    found: list[int] = next((numbers for numbers in tries if numbers), [])
    if len(found) != 1:
        how = "several runs" if found else "none of the runs"
        raise ConfigError(
            f"'{given}' means {how}.{'' if found else suggest(given, names)}",
            hint=f"choose one of {', '.join(names)}",
        )
    if entrants[found[0]].study.leaky:
        raise ConfigError(
            f"'{given}' is LEAKY: its step was chosen on the test subject.",
            hint="compare with a run whose scores mean something",
        )
    return found[0]


def _compare(entrants: Sequence[Entrant], lines: Sequence[dict[str, Any]], reference: int) -> None:
    """Write into the lines how they do against one of them."""
    lines[reference]["reference"] = True
    first = entrants[reference]
    tested = [
        (line, compare_runs((one.run, one.study), (first.run, first.study)))
        for number, (one, line) in enumerate(zip(entrants, lines, strict=True))
        if number != reference and not one.study.leaky
    ]
    adjusted = holm([found.mcnemar.p_value for _, found in tested])
    for (line, found), p_holm in zip(tested, adjusted, strict=True):
        line["against"] = {
            "accuracy_difference": found.accuracy_difference,
            "only_here": found.mcnemar.only_first,
            "only_there": found.mcnemar.only_second,
            "p_value": found.mcnemar.p_value,
            "p_holm": p_holm,
        }


def leaderboard_csv(facts: Mapping[str, Any]) -> str:
    """Return the table as CSV, from `leaderboard_facts`: a line a model, and always one class.

    Empty cells are what is not known or does not apply. ``marks`` holds SYNTHETIC,
    LEAKY and TRANSDUCTIVE. A name that a spreadsheet would take for a formula has a quote before
    it.
    """
    text = io.StringIO()
    head = ["name", "run", "model", "preset", "seed", "selection", "marks", "clips", "subjects"]
    for score in SCORES:
        head += [score, f"{score}_low", f"{score}_high"]
    head += ["beats_largest_class", "parameters", "training_seconds", "input"]
    head += ["p_value", "p_holm", "control_uf1", "control_uf1_low", "control_uf1_high"]
    head += ["published_uf1", "published_uar", "published_selected", "published_source"]
    writer = csv.DictWriter(text, head, lineterminator="\n", restval="")
    writer.writeheader()
    for line in facts["entries"]:
        writer.writerow(_cells(line, facts))
    largest = facts["largest_class"]
    writer.writerow(
        {
            "name": f"always {largest['class']}",
            "marks": " ".join(marks_of(facts, {})),
            "clips": facts["clips"],
            "subjects": facts["subjects"],
            **{score: largest[score] for score in SCORES},
        }
    )
    return text.getvalue()


def _cells(line: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    names = ("name", "run", "model", "preset", "seed", "selection", "parameters", "input")
    cells = {name: line[name] for name in names}
    cells |= {name: _as_text(line[name]) for name in ("name", "run")}
    cells |= {"clips": facts["clips"], "subjects": facts["subjects"]}
    cells["marks"] = " ".join(marks_of(facts, line))
    cells["beats_largest_class"] = "yes" if line["beats_largest_class"] else "no"
    seconds = line["training_seconds"]
    cells["training_seconds"] = "" if seconds is None else round(seconds, 2)
    for score in SCORES:
        low, high = line["interval_95"][score]
        cells |= {score: line["scores"][score], f"{score}_low": low, f"{score}_high": high}
    if line["against"]:
        cells |= {name: line["against"][name] for name in ("p_value", "p_holm")}
    if line["control"]:
        low, high = line["control"]["interval_95"]["uf1"]
        cells |= {"control_uf1": line["control"]["scores"]["uf1"]}
        cells |= {"control_uf1_low": low, "control_uf1_high": high}
    printed = published_whole(line)
    if printed:
        cells |= {
            "published_uf1": printed["scores"].get("uf1", ""),
            "published_uar": printed["scores"].get("uar", ""),
            "published_selected": printed["selected"],
            "published_source": printed["source"],
        }
    return cells


def _as_text(name: str) -> str:
    """Return a name so that no spreadsheet computes it: people may call folders as they like."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def published_whole(line: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the first published result of a line that is of all clips; None if there is none."""
    return next((one for one in line["published"] if one["part"] == "all"), None)


def marks_of(facts: Mapping[str, Any], line: Mapping[str, Any]) -> list[str]:
    """Return what nobody may miss of a line: SYNTHETIC, LEAKY, TRANSDUCTIVE."""
    return (["SYNTHETIC"] if facts["synthetic"] else []) + leaks_of(line)
