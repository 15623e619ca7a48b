"""Commands that look at the machine and at correctness: doctor, evaluate-truth."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import click

from mer_prep.commands.common import (
    corpora_argument,
    jobs_option,
    json_option,
    plural,
    print_json,
    table,
    workspace_option,
)
from mer_prep.terminal import echo
from mer_prep.workspace import Workspace

_COLOURS = {"ok": "green", "note": None, "missing": "yellow", "problem": "red"}


@click.command()
@workspace_option
@json_option
def doctor(workspace: Workspace, as_json: bool) -> None:
    """Show what works here and what to install.

    Exits with 1 if something clashes or a package that is always needed is missing.
    """
    from mer_prep.doctor import examine

    found = examine(workspace.root)
    if as_json:
        print_json([dataclasses.asdict(one) for one in found])
    else:
        width = max(len(one.name) for one in found)
        for one in found:
            state = click.style(one.state.ljust(8), fg=_COLOURS[one.state])
            echo(f"{one.name.ljust(width)}  {one.detail}", lead=state)
            if one.remedy:
                echo(f"{' ' * (8 + width)}  -> {one.remedy}")
    problems = sum(one.state == "problem" for one in found)
    missing = sum(one.state == "missing" for one in found)
    echo(f"doctor: {plural(problems, 'problem')}, {missing} optional parts missing", err=as_json)
    if problems:
        raise click.exceptions.Exit(1)


_COLUMNS = (
    ("landmark_error_outer_corners", "landmarks %", 100),
    ("endpoint_error_px", "flow px", 1),
    ("zero_endpoint_error_px", "no flow px", 1),
    ("expression_error_px", "expression px", 1),
    ("zero_expression_error_px", "no expression px", 1),
    ("jitter_px", "jitter px", 1),
)

_KEY_FRAME_COLUMNS = (
    ("apex_error", "apex", 1),
    ("midpoint_error", "midpoint", 1),
    ("onset_error", "onset", 1),
    ("offset_error", "offset", 1),
)

_KEY_FRAME_LEGEND = """\
Mean over clips (worst clip): distance of the spotted key frames from the true ones, in frames of
an expression of 60 frames; midpoint is that of the midpoint of onset and offset from the apex."""

_LEGEND = """\
Mean over clips (worst clip), inside the face at 144x144.
  landmarks   distance from the true ones, in % of the distance of the outer eye corners
  flow        end-point error against how the aligned pixels really move, head motion included
  expression  end-point error against the expression alone: what alignment should leave
  no ...      the same error of a flow that is zero everywhere, which a flow must beat
  jitter      change of the alignment from frame to frame, followed head motion included"""


@click.command("evaluate-truth")
@corpora_argument
@click.option(
    "--pipeline",
    "pipeline_name",
    default="onset-apex",
    show_default=True,
    help="Whose results are scored.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="STAGE.KEY=VALUE",
    help="Change a parameter of the pipeline, e.g. align.mode=per-frame.",
)
@workspace_option
@jobs_option
@json_option
def evaluate_truth(
    corpora: tuple[str, ...],
    pipeline_name: str,
    settings: tuple[str, ...],
    workspace: Workspace,
    jobs: int,
    as_json: bool,
) -> None:
    """Score prepared synthetic corpora by their truth.

    Landmarks, alignment, flow and spotted key frames are compared. What is missing of the
    pipeline, and the stage apex, is made first.
    """
    from mer_prep.config import merge_settings, parse_settings
    from mer_prep.evaluation import pool_truth
    from mer_prep.pipeline import read_pipeline
    from mer_prep.progress import Progress, duration
    from mer_prep.stages import all_stages
    from mer_prep.stages.base import build_stages
    from mer_prep.stages.plan import Recipe, make_plan
    from mer_prep.stages.runner import Runner
    from mer_prep.truth_check import score_plans, synthetic_corpora

    started = time.monotonic()
    names = synthetic_corpora(workspace, workspace.select(corpora))
    pipeline = read_pipeline(pipeline_name)
    merged = merge_settings(pipeline.settings, parse_settings(settings))
    wanted = tuple(dict.fromkeys((*pipeline.stages, "apex")))
    recipe = Recipe(*build_stages(all_stages(), wanted, merged))
    with Progress(f"run {pipeline.name}") as progress:
        Runner(workspace, recipe, jobs=jobs, progress=progress, say=progress.say).run(
            make_plan(workspace, names, recipe)
        )
    with Progress("evaluate") as progress:
        scores = score_plans(
            workspace, make_plan(workspace, names, recipe, explain=False), progress=progress
        )
    pooled = {one.corpus: pool_truth(one.clips) for one in scores}
    everything = [clip for one in scores for clip in one.clips]
    pooled["all"] = pool_truth(everything)
    if as_json:
        print_json(
            {
                "pipeline": pipeline.name,
                "settings": settings_of(recipe),
                "clips": [dataclasses.asdict(clip) for clip in everything],
                "pooled": {
                    name: {key: dataclasses.asdict(value) for key, value in one.items()}
                    for name, one in pooled.items()
                },
            }
        )
    else:
        counts = {one.corpus: len(one.clips) for one in scores} | {"all": len(everything)}
        for columns, legend in ((_COLUMNS, _LEGEND), (_KEY_FRAME_COLUMNS, _KEY_FRAME_LEGEND)):
            rows = [
                (name, counts[name], *(_cell(one.get(key), factor) for key, _, factor in columns))
                for name, one in pooled.items()
            ]
            head = ("SYNTHETIC", "clips", *(title for _, title, _ in columns))
            echo(table(rows, head))
            echo(legend)
    echo(
        f"evaluate-truth: {plural(len(everything), 'clip')}, "
        f"{duration(time.monotonic() - started)}, SYNTHETIC, in {workspace.root}",
        err=as_json,
    )


def _cell(pooled: Any, factor: float) -> str:
    if pooled is None or math.isnan(pooled.mean):
        return "-"
    return f"{pooled.mean * factor:.3f} ({pooled.worst * factor:.3f})"


def settings_of(recipe: Any) -> dict[str, Any]:
    """Return the parameters of a recipe's stages as plain values."""
    return {
        "source": dataclasses.asdict(recipe.source),
        **{name: dataclasses.asdict(stage.params) for name, stage in recipe.stages.items()},
    }


COMMANDS = (doctor, evaluate_truth)
