"""Commands around spotting in long videos: spotting-truth, evaluate-spotting."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mer_prep.checks import suggest
from mer_prep.commands.common import (
    FiniteRange,
    corpora_argument,
    json_option,
    plural,
    print_json,
    table,
    workspace_option,
)
from mer_prep.errors import ManifestError
from mer_prep.terminal import echo
from mer_prep.workspace import Workspace

if TYPE_CHECKING:
    from mer_prep.spotting import Interval, SpotThenRecognise, SpottingScores, Truth

_TYPES = {"micro": ("micro",), "macro": ("macro",), "both": ("micro", "macro")}


def _truth_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that decide what the ground truth is."""
    for option in (
        click.option(
            "--onset-at-start",
            type=click.Choice(["drop", "keep"]),
            default="drop",
            show_default=True,
            help="samm_lv: macro-expressions annotated from the start of their recording.",
        ),
        click.option(
            "--missing-offset",
            type=click.Choice(["apex", "mirror", "drop"]),
            default="apex",
            show_default=True,
            help="What stands in for an offset that nobody annotated: the apex, as many frames "
            "after it as the onset is before it, or nothing (the expression is left out).",
        ),
        click.option(
            "--type",
            "kind",
            type=click.Choice(list(_TYPES)),
            default="both",
            show_default=True,
            help="Which expressions.",
        ),
    ):
        command = option(command)
    return command


@click.command("spotting-truth")
@corpora_argument
@_truth_options
@click.option(
    "--out",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV file.  [default: spotting-truth.csv in the workspace]",
)
@workspace_option
@json_option
def spotting_truth(
    corpora: tuple[str, ...],
    kind: str,
    missing_offset: str,
    onset_at_start: str,
    out: Path | None,
    workspace: Workspace,
    as_json: bool,
) -> None:
    """Write the expressions annotated in long videos, as ground truth for spotting.

    Every recording of casme_sq, casme3, samm_lv and SMIC-E is listed, those without expressions
    too: whatever is spotted in them is a false positive. k is half the mean length of an
    expression, in frames.
    """
    from mer_prep.spotting import write_truth

    truth = _workspace_truth(workspace, corpora, kind, missing_offset, onset_at_start)
    path = write_truth(out or workspace.root / "spotting-truth.csv", truth)
    rows = [_counts(truth, corpus) for corpus in _corpora_of(truth)]
    if as_json:
        facts = {
            "file": str(path),
            "digest": truth.digest(),
            "type": kind,
            "missing_offset": missing_offset,
            "onset_at_start": onset_at_start,
            "synthetic": truth.synthetic,
            "corpora": rows,
            "notes": truth.notes,
        }
        print_json(facts)
    else:
        shown = [tuple("-" if cell is None else cell for cell in row.values()) for row in rows]
        echo(table(shown, ("corpus", "videos", "without", "micro", "macro", "k micro", "k macro")))
        _print_notes(truth.notes)
    synthetic = ", SYNTHETIC" if truth.synthetic else "; licensed annotations, not to be passed on"
    echo(
        f"spotting-truth: {plural(len(truth.intervals), 'expression')} in "
        f"{plural(len(truth.videos), 'video')}, digest {truth.digest()[:16]}, in {path}{synthetic}",
        err=as_json,
    )


@click.command("evaluate-spotting")
@click.argument("predictions", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@corpora_argument
@click.option(
    "--truth",
    "truth_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Ground truth as CSV, as spotting-truth writes it; by default that of the workspace.",
)
@_truth_options
@click.option(
    "--iou",
    type=FiniteRange(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    help="Smallest intersection over union of a match.",
)
@click.option(
    "--strs",
    "mode",
    type=click.Choice(["strict", "reference"]),
    help="Also score the emotions: each interval matched once in all videos, or as the reference "
    "script counts.",
)
@click.option(
    "--log",
    "log_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write every interval with its match, in the format of MEGC 2019.",
)
@workspace_option
@json_option
def evaluate_spotting(
    predictions: Path,
    corpora: tuple[str, ...],
    truth_file: Path | None,
    kind: str,
    missing_offset: str,
    onset_at_start: str,
    iou: float,
    mode: str | None,
    log_file: Path | None,
    workspace: Workspace,
    as_json: bool,
) -> None:
    """Score intervals spotted in long videos.

    PREDICTIONS is a CSV file with the columns video, onset and offset (first and last frame, by
    their numbers in the corpus), and type (micro or macro) where both are scored; emotion for
    --strs. Counts are pooled over all videos, those without expressions too. Intervals of F1 are
    of 95 %, from resampled subjects.
    """
    from mer_prep.spotting import read_predictions, read_truth, score_spotting, write_log

    types = _TYPES[kind]
    if truth_file is None:
        truth = _workspace_truth(workspace, corpora, kind, missing_offset, onset_at_start)
    else:
        _refuse_truth_options(corpora)
        truth = read_truth(truth_file)
    if not truth.videos:
        raise ManifestError(
            "The ground truth names no video.",
            where=truth_file,
            why="there is nothing to score against",
            hint="a video without expressions has a row with its name and nothing else",
        )
    known = [] if truth_file else sorted(set(workspace.corpora()) - set(_corpora_of(truth)))
    spotted = read_predictions(predictions, truth, types=types, elsewhere=known)
    scores = score_spotting(truth, spotted, types=types, threshold=iou)
    strs = _strs(truth, spotted, types, mode, iou) if mode else {}
    notes = [*truth.notes, *_prediction_notes(truth, spotted, types)]
    if mode:
        notes += _emotion_notes(truth, spotted, types)
    rows = _score_rows(truth, scores)
    if log_file is not None:
        write_log(log_file, scores)
    if as_json:
        print_json(
            {
                "predictions": str(predictions),
                "truth": str(truth_file) if truth_file else _corpora_of(truth),
                "truth_digest": truth.only(types).digest(),
                "missing_offset": None if truth_file else missing_offset,
                "onset_at_start": None if truth_file else onset_at_start,
                "iou": iou,
                "synthetic": truth.synthetic,
                "videos": len(truth.videos),
                "videos_without": len(truth.without_expression(types)),
                "scores": {row["type"]: row for row in rows},
                "strs": {name: _strs_facts(one) for name, one in strs.items()} or None,
                "notes": notes,
            }
        )
    else:
        echo(_score_table(rows))
        for name, found in strs.items():
            echo(_strs_line(name, found))
        _print_notes(notes)
    overall = rows[-1]
    log = f", log in {log_file}" if log_file else ""
    synthetic = ", SYNTHETIC" if truth.synthetic else ""
    echo(
        f"evaluate-spotting: F1 {_score(overall['f1'])} ({overall['type']}) on "
        f"{plural(len(truth.videos), 'video')}, {len(truth.without_expression(types))} of them "
        f"without an expression, IoU {iou:g}{log}{synthetic}",
        err=as_json,
    )


def _workspace_truth(
    workspace: Workspace, corpora: tuple[str, ...], kind: str, offset: str, at_start: str
) -> Truth:
    from mer_prep.spotting import corpora_with_recordings, read_ground_truth
    from mer_prep.spotting.truth import Policy

    names = corpora_with_recordings(workspace, corpora)
    return read_ground_truth(workspace, names, types=_TYPES[kind], policy=Policy(offset, at_start))


def _refuse_truth_options(corpora: tuple[str, ...]) -> None:
    """Refuse what a ground truth from a file has decided already."""
    context = click.get_current_context()
    given = [
        name
        for name in ("missing_offset", "onset_at_start")
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    ]
    if corpora or given:
        what = "corpora" if corpora else f"--{given[0].replace('_', '-')}"
        raise click.UsageError(f"--truth FILE says what the ground truth is; leave out {what}.")


def _corpora_of(truth: Truth) -> list[str]:
    return sorted({video.name.split("/", 1)[0] for video in truth.videos if "/" in video.name})


def _counts(truth: Truth, corpus: str) -> dict[str, Any]:
    from mer_prep.spotting import half_mean_length

    prefix = f"{corpus}/"
    inside = [one for one in truth.intervals if one.video.startswith(prefix)]
    kinds = {kind: [one for one in inside if one.type == kind] for kind in _TYPES["both"]}
    empty = truth.without_expression()
    return {
        "corpus": corpus,
        "videos": sum(video.name.startswith(prefix) for video in truth.videos),
        "without": sum(video.name.startswith(prefix) for video in empty),
        **{kind: len(found) for kind, found in kinds.items()},
        **{f"k_{kind}": half_mean_length(found) for kind, found in kinds.items()},
    }


def _score_rows(truth: Truth, scores: SpottingScores) -> list[dict[str, Any]]:
    """Return the scores of every type and, of several, those of all together."""
    from mer_prep.spotting import bootstrap_f1

    rows = []
    wanted: dict[str, tuple[str, ...]] = {kind: (kind,) for kind in scores.types}
    if len(wanted) > 1:
        wanted["overall"] = tuple(scores.types)
    for name, types in wanted.items():
        counts = scores.types.get(name, scores.overall)
        # Nothing annotated and nothing spotted is no score, neither the worst nor the best.
        empty = counts.tp + counts.fp + counts.fn == 0
        bounds = None if empty else bootstrap_f1(scores, types=types)
        rows.append(
            {
                "type": name,
                "annotated": counts.tp + counts.fn,
                "spotted": counts.tp + counts.fp,
                **dataclasses.asdict(counts),
                "precision": None if empty else counts.precision,
                "recall": None if empty else counts.recall,
                "f1": None if empty else counts.f1,
                "f1_interval": [bounds.low, bounds.high] if bounds else None,
            }
        )
    return rows


def _score_table(rows: list[dict[str, Any]]) -> str:
    head = ("type", "annotated", "spotted", "TP", "FP", "FN", "precision", "recall", "F1", "95 %")
    shown = []
    for row in rows:
        scores = [_score(row[name]) for name in ("precision", "recall", "f1")]
        bounds = row["f1_interval"]
        interval = f"{bounds[0]:.4f} to {bounds[1]:.4f}" if bounds else "-"
        numbers = [row[name] for name in ("annotated", "spotted", "tp", "fp", "fn")]
        shown.append((row["type"], *numbers, *scores, interval))
    return table(shown, head)


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _strs(
    truth: Truth, spotted: Sequence[Interval], types: Sequence[str], mode: str, iou: float
) -> dict[str, SpotThenRecognise]:
    from mer_prep.spotting import spot_then_recognise

    wanted: dict[str, tuple[str, ...]] = {kind: (kind,) for kind in types}
    if len(wanted) > 1:
        wanted["overall"] = tuple(types)
    return {
        name: spot_then_recognise(truth, spotted, types=chosen, mode=mode, threshold=iou)
        for name, chosen in wanted.items()
    }


def _strs_facts(found: SpotThenRecognise) -> dict[str, Any]:
    counts, analysis = found.spotting, found.analysis
    return {
        "mode": found.mode,
        "strs": found.strs,
        "spotting": {**dataclasses.asdict(counts), "f1": counts.f1},
        "analysis": {
            "f1": analysis.f1,
            "mean_precision": analysis.precision,
            "uar": analysis.recall,
            "uf1": analysis.uf1,
            "classes": analysis.classes,
            "confusion": analysis.confusion.tolist(),
        },
    }


def _strs_line(name: str, found: SpotThenRecognise) -> str:
    return (
        f"STRS ({found.mode}), {name}: {found.strs:.4f} = F1 of spotting "
        f"{found.spotting.f1:.4f} x F1 of analysis {found.analysis.f1:.4f} (UF1 "
        f"{found.analysis.uf1:.4f}, UAR {found.analysis.recall:.4f}, "
        f"{plural(len(found.analysis.classes), 'emotion')})"
    )


def _prediction_notes(truth: Truth, spotted: Sequence[Interval], types: Sequence[str]) -> list[str]:
    """Return what looks odd about the predictions, without being wrong."""
    notes = []
    others = sum(one.type not in types for one in spotted)
    if others:
        notes.append(f"{plural(others, 'spotted interval')} of another type not scored")
    for kind in types:
        if not truth.of_type(kind) and any(one.type == kind for one in spotted):
            notes.append(f"no {kind}-expression is annotated; all that are spotted count as false")
    named = {one.video.split("/", 1)[0] for one in spotted}
    for corpus in _corpora_of(truth):
        if spotted and corpus not in named:
            notes.append(f"{corpus}: nothing is spotted in any of its videos; all is missed")
    ends = {video.name: (video.first, video.last) for video in truth.videos}
    beyond = [one for one in spotted if _outside(one, *ends[one.video])]
    if beyond:
        first = beyond[0]
        notes.append(
            f"{plural(len(beyond), 'spotted interval')} beyond the frames of the video, the first "
            f"{first.onset} to {first.offset} of {first.video}: are these frame numbers?"
        )
    return notes


def _emotion_notes(truth: Truth, spotted: Sequence[Interval], types: Sequence[str]) -> list[str]:
    """Return which emotions are spotted and annotated nowhere; each is a class of F1 0."""
    annotated = {one.emotion for one in truth.intervals if one.type in types}
    foreign = Counter(
        one.emotion for one in spotted if one.type in types and one.emotion not in annotated
    )
    return [
        f"emotion '{emotion}' is spotted ({plural(count, 'interval')}), and no expression that is "
        "scored has it: it counts as one more class, of F1 0."
        f"{suggest(str(emotion), map(str, annotated))}"
        for emotion, count in sorted(foreign.items(), key=lambda item: str(item[0]))
    ]


def _outside(one: Interval, first: int | None, last: int | None) -> bool:
    return (first is not None and one.onset < first) or (last is not None and one.offset > last)


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        echo(f"  note: {note}")


COMMANDS = (spotting_truth, evaluate_spotting)
