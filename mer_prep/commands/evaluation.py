"""Commands that use trained weights: evaluate, predict."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from mer_prep.commands.common import json_option, plural, print_json, table, workspace_option
from mer_prep.errors import ConfigError
from mer_prep.terminal import echo
from mer_prep.workspace import Workspace

_DEVICE = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="auto, cpu, cuda or cuda:N; auto prefers cuda.",
)

#: Scores of the auxiliary tasks: name, title, factor and digits.
_TARGETS = (
    ("flow_endpoint_error_px", "flow EPE px", 1, 3),
    ("zero_flow_error_px", "zero flow px", 1, 3),
    ("reconstruction_error", "rebuilt", 1, 3),
    ("identity_error", "as it is", 1, 3),
    ("landmark_error_eye_centres", "landmarks %", 100, 2),
    ("landmark_failure_rate", "failures %", 100, 2),
    ("mean_face_error", "mean face %", 100, 2),
)

_TRUTHS = (
    ("true_flow_error_px", "flow px", 1, 3),
    ("true_tvl1_error_px", "TV-L1 px", 1, 3),
    ("true_zero_error_px", "zero flow px", 1, 3),
    ("true_landmark_error_eye_centres", "landmarks %", 100, 2),
    ("true_target_error", "dlib %", 100, 2),
)

_LEGEND = "Mean over clips, each by the model that was not trained on it; px are {px}."

#: What stands below the scores, by the score that it explains.
_EXPLAINED = {
    "flow_endpoint_error_px": "  flow EPE    end-point error against TV-L1; zero flow is that of "
    "no motion, which it must beat",
    "reconstruction_error": "  rebuilt     the apex from the onset by the displacement: mean "
    "error in grey levels; as it is,\n              that of the onset itself, which it must beat",
    "landmark_error_eye_centres": "  landmarks   mean error against dlib's, in % of the distance "
    "between the centres of the eyes;\n              mean face is that of the mean landmarks in "
    "training; failures are frames above 10 %",
}


@click.command()
@click.argument("run")
@click.option("--compare", "other", metavar="RUN", help="Only compare the predictions of two runs.")
@_DEVICE
@workspace_option
@json_option
def evaluate(run: str, other: str | None, device: str, workspace: Workspace, as_json: bool) -> None:
    """Score a trained run again from its saved weights.

    RUN is the name of a run, or its folder. Every clip is predicted by the fold that tested it,
    and the predictions must be those that the run stored. Flow and landmarks, the auxiliary tasks,
    are scored as well, against TV-L1 and dlib and, for synthetic clips, against the truth; the
    scores go to results.json and, by clip, to auxiliary.csv.

    With --compare nothing is predicted: McNemar's test says whether the accuracies of two finished
    runs on the same clips differ by more than chance.
    """
    from mer_prep.checks import soft_import

    for package in ("torch", "safetensors"):
        soft_import(package, purpose="is needed to evaluate", install="mer-prep[train]")
    from mer_prep.training.study import read_study
    from mer_prep.training.weights import find_run

    if other is not None:
        _compare(workspace, run, other, as_json)
        return
    from mer_prep.commands.scores import print_results
    from mer_prep.progress import Progress, duration
    from mer_prep.training.folds import choose_device
    from mer_prep.training.rescoring import rescore, write_rescored

    started = time.monotonic()
    owner, folder = find_run(workspace, run)
    study = read_study(folder)
    with Progress("evaluate", unit="fold") as progress:
        found = rescore(owner, folder, study, device=choose_device(device), progress=progress)
    results = write_rescored(folder, study, found)
    if as_json:
        print_json(results)
    else:
        print_results(results | {"scores": results["rescored"]["scores"]})
        _print_auxiliary(results["auxiliary"]["parts"], _px(study))
        echo(
            "predictions: as the run stored them, to "
            f"{found.largest_difference:.1g} of a probability"
        )
        for clip_id in found.other_class:
            echo(f"  by that little of another class: {clip_id}")
    marks = (", SYNTHETIC" if study.synthetic else "") + (", LEAKY" if results.get("leaky") else "")
    echo(
        f"evaluate: {plural(len(study.folds), 'fold')}, {plural(len(found.rows), 'clip')}, "
        f"{duration(time.monotonic() - started)}{marks}, in {folder / 'results.json'}",
        err=as_json,
    )


def _px(study: Any) -> str:
    side = study.method.side
    scale = "" if study.reduce == 1 else f", {study.reduce} aligned px each"
    return f"of the model's frames ({side}x{side}{scale})"


def _print_auxiliary(parts: dict[str, dict[str, float]], px: str) -> None:
    for columns, title, count in (
        (_TARGETS, "auxiliary", "clips"),
        (_TRUTHS, "against the truth", "true_clips"),
    ):
        shown = [one for one in columns if any(one[0] in part for part in parts.values())]
        if not shown:
            continue
        rows = [
            (name, part[count], *(_cell(part, key, *form) for key, _, *form in shown))
            for name, part in parts.items()
            if count in part
        ]
        echo(table(rows, (title, "clips", *(one[1] for one in shown))))
        if columns is _TARGETS:
            echo(_LEGEND.format(px=px))
            for key, text in _EXPLAINED.items():
                if any(key in part for part in parts.values()):
                    echo(text)
        else:
            echo("Flow is scored inside the face; what alignment left of head motion counts.")


def _cell(part: dict[str, float], key: str, factor: float, digits: int) -> str:
    return f"{part[key] * factor:.{digits}f}" if key in part else "-"


def _compare(workspace: Workspace, first: str, second: str, as_json: bool) -> None:
    from mer_prep.training.compare import compare_runs, comparison_facts
    from mer_prep.training.study import read_study
    from mer_prep.training.weights import find_run, read_results

    folders = [find_run(workspace, one)[1] for one in (first, second)]
    studies = [read_study(folder) for folder in folders]
    found = compare_runs(*zip(folders, studies, strict=True))
    names = [folder.name for folder in folders]
    leaky = [
        folder.name
        for folder, study in zip(folders, studies, strict=True)
        if study.leaky or read_results(folder).get("leaky")
    ]
    if as_json:
        print_json({"runs": names, "leaky": leaky, **comparison_facts(found)})
        return
    rows = [
        (name, *(f"{scores[key]:.3f}" for key in ("uf1", "uar", "acc", "wf1")))
        for name, scores in zip(names, (found.first, found.second), strict=True)
    ]
    echo(table(rows, ("run", "UF1", "UAR", "Acc", "WF1")))
    test = found.mcnemar
    echo(
        f"accuracy of {names[0]} less that of {names[1]}: "
        f"{100 * found.accuracy_difference:+.1f} points; only {names[0]} has "
        f"{test.only_first} right, only {names[1]} {test.only_second}\n"
        f"McNemar's test, exact, two-sided: p = {test.p_value:.3g}. It takes clips as independent; "
        "those of one subject are not quite."
    )
    for name, (here, there) in found.differing.items():
        echo(f"  note: not the same {name}: {here} and {there}")
    for name in leaky:
        echo(f"  LEAKY: {name} chose its weights on the test subjects; the test says nothing")
    marks = ", SYNTHETIC" if any(study.synthetic for study in studies) else ""
    marks += ", LEAKY" if leaky else ""
    echo(f"evaluate: {plural(found.clips, 'clip')} compared{marks}")


@click.command()
@click.argument("source")
@click.option("--run", required=True, help="Name of a trained run, or its folder.")
@click.option("--fold", metavar="NAME", help="Take the weights of this fold.")
@click.option("--ensemble", is_flag=True, help="Take the mean of all folds.")
@click.option(
    "--onset", type=click.IntRange(0, 10**9), help="First frame of the expression, for a path."
)
@click.option(
    "--offset", type=click.IntRange(0, 10**9), help="Last frame of the expression, for a path."
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for probabilities.json, flow.npz, landmarks.csv and prediction.png.",
)
@_DEVICE
@workspace_option
@json_option
def predict(
    source: str,
    run: str,
    fold: str | None,
    ensemble: bool,
    onset: int | None,
    offset: int | None,
    output: Path | None,
    device: str,
    workspace: Workspace,
    as_json: bool,
) -> None:
    """Apply a trained run to a clip or video.

    SOURCE is the id of a clip of the workspace, a video file, or a folder of numbered frames. It is
    prepared as the run's clips were, in memory, and cut as in testing.

    A clip that the run tested is judged by the fold that tested it. Anything else is judged by the
    mean of all folds that were trained neither on its frames nor, where the subject is known, on
    its person. A fold that was trained on what it would judge is refused.
    """
    from mer_prep.checks import soft_import

    if fold is not None and ensemble:
        raise ConfigError("One fold or all of them: choose --fold or --ensemble.")
    for package in ("torch", "safetensors"):
        soft_import(package, purpose="is needed to predict", install="mer-prep[train]")
    from mer_prep.progress import duration
    from mer_prep.training.apply import apply_folds
    from mer_prep.training.folds import choose_device
    from mer_prep.training.inputs import find_source, member_of, ready_source
    from mer_prep.training.outputs import marks_of, prediction_facts, write_prediction
    from mer_prep.training.study import read_study
    from mer_prep.training.weights import (
        check_pre_training,
        check_weights,
        choose_judges,
        find_run,
    )

    started = time.monotonic()
    chosen = choose_device(device)
    owner, folder = find_run(workspace, run)
    study = read_study(folder)
    found = find_source(owner, study, source, onset=onset, offset=offset)
    # Before the clip is prepared, which takes a while.
    judges = choose_judges(study, member_of(found), fold=fold, ensemble=ensemble)
    check_pre_training(folder, study, member_of(found))
    check_weights(folder, judges.folds)
    ready = ready_source(owner, folder, study, found)
    prediction = apply_folds(folder, study, ready, judges, device=chosen)
    facts = prediction_facts(folder, study, ready, judges, prediction)
    if output is not None:
        write_prediction(output, ready, prediction, facts)
    if as_json:
        print_json(facts)
    else:
        _print_prediction(facts, marks_of(facts), _px(study))
    place = ", SYNTHETIC" if facts["synthetic"] else ""
    place += f", in {output}" if output is not None else ""
    echo(
        f"predict: {plural(len(facts['samples']), 'sample')}, "
        f"{plural(len(judges.folds), 'fold')}, {duration(time.monotonic() - started)}{place}",
        err=as_json,
    )


def _print_prediction(facts: dict[str, Any], marks: list[str], px: str) -> None:
    label = f", its label is {facts['label']}" if facts["label"] else ""
    echo(f"{facts['clip']}: {facts['predicted']}{label}")
    echo(f"  weights: {facts['run']}, {facts['weights']['why']}")
    for mark in marks:
        echo(f"  {mark}")
    if len(facts["samples"]) == 1:
        numbers = facts["samples"][0]["frames"]
        echo(f"  frames {', '.join(map(str, numbers))}")
    rows = []
    for name, chance in facts["probabilities"].items():
        of_samples = [one["probabilities"][name] for one in facts["samples"]]
        of_folds = [one[name] for one in facts["folds"].values()]
        row = [name, f"{chance:.3f}", f"{min(of_samples):.3f}-{max(of_samples):.3f}"]
        if len(of_folds) > 1:
            row.append(f"{min(of_folds):.3f}-{max(of_folds):.3f}")
        rows.append(tuple(row))
    head = ("class", "probability", "over samples", "over folds")
    echo(table(rows, head[: len(rows[0])]))
    scores = facts["auxiliary"]
    if "flow_endpoint_error_px" in scores:
        echo(
            f"flow: {scores['flow_endpoint_error_px']:.3f} px from TV-L1, zero flow "
            f"{scores['zero_flow_error_px']:.3f} px; px {px}"
        )
    if "landmark_error_eye_centres" in scores:
        percent = 100 * scores["landmark_error_eye_centres"]
        echo(
            f"landmarks: {percent:.2f} % of the distance of the eye centres from dlib's, "
            f"{scores['landmark_failures']} of {plural(scores['frames'], 'frame')} above 10 %"
        )
    if "reconstruction_error" in scores:
        echo(
            f"apex rebuilt from the onset: {scores['reconstruction_error']:.2f} grey levels off, "
            f"the onset itself {scores['identity_error']:.2f}"
        )
    if facts["regions"]:
        first = sorted(facts["regions"].items(), key=lambda one: -one[1]["attention"])
        listed = ", ".join(f"{name} {one['attention']:.2f}" for name, one in first)
        echo(f"regions by attention: {listed}")
    for note in facts["notes"]:
        echo(f"  note: {note}")


COMMANDS = (evaluate, predict)
