"""Commands that run stages: one for every stage, and run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from mer_prep.commands.common import (
    corpora_argument,
    json_option,
    plural,
    print_json,
    run_options,
    say_next,
    table,
)
from mer_prep.terminal import echo
from mer_prep.workspace import Workspace

_ABOUT = {
    "landmarks": """Find 68 facial landmarks in every frame.

    dlib's model; the face is detected once and then followed; positions are sub-pixel, in source
    pixels.""",
    "align": """Align faces to 144x144.

    The landmarks of the onset frame place the face; every other frame is registered to it, which
    takes out the motion of the head. Brings landmarks up to date first. `--set align.mode=onset`
    leaves that motion in; `per-frame` aligns each frame on its own landmarks, as published code
    does, which adds jitter as large as a micro-expression.""",
    "apex": """Find onset, apex and offset in the frames themselves.

    For clips without annotation, and to check those with one: where a key frame is annotated, the
    difference is kept beside the result. Brings landmarks and alignment up to date first. Other
    stages use what is found if they are told to, e.g. `--set flow.apex=annotated-or-spotted`.""",
    "flow": """Compute TV-L1 optical flow of aligned faces.

    Flow is in px, channels (u, v). Brings landmarks and alignment up to date first. `--set
    flow.pairs=lagged` gives the pairs of MOL; onset-apex is the default. A missing apex is
    replaced by the midpoint; `--set flow.apex=annotated-or-spotted` looks for it instead, and
    `annotated` leaves the clip out. `--set flow.remove_global=similarity` subtracts what is left
    of the head's motion, `--set flow.mask=eyes` blinks.""",
    "strain": """Compute optical strain of the flow.

    How much the skin is stretched, squeezed and sheared: the magnitude sqrt(e_xx^2 + e_yy^2 + 2
    e_xy^2), unitless. Brings flow up to date first. `--set strain.components=tensor` keeps e_xx,
    e_yy and e_xy.""",
    "motion-image": """Make small pictures of u, v and strain.

    28x28, every channel from 0 to 1, as STSTNet takes them in; the pipeline ststnet-uvos states
    all its parameters. Brings flow up to date first. `--set motion-image.normalise=none` keeps
    px.""",
    "difference": """Subtract the onset frame from the apex frame.

    Signed, in grey levels, of aligned frames. Brings landmarks and alignment up to date first. A
    missing apex is replaced by the midpoint unless `--set difference.apex=annotated`.""",
    "dynamic-image": """Sum a clip up in one picture by rank pooling.

    Approximate rank pooling of the aligned frames from onset to offset; `--set
    dynamic-image.method=exact` solves the ranking machine that it approximates, `--set
    dynamic-image.input=flow --set flow.pairs=consecutive` pools flow. Brings alignment up to date
    first.""",
    "tim": """Bring every clip to one length in time.

    Temporal interpolation model of the aligned frames from onset to offset, 10 frames; `--set
    tim.length=20` makes 20, `--set tim.method=linear` blends neighbours. Brings landmarks and
    alignment up to date first.""",
    "magnify": """Magnify the motion of aligned faces.

    Phase-based, against the onset frame: motion becomes 1 + amplification times as large, 5 times
    by default. `--set magnify.method=linear` amplifies grey values instead; `--set
    magnify.low_hz=1 --set magnify.high_hz=15` keeps a temporal band only. Brings landmarks and
    alignment up to date first.""",
}


def _stage_command(name: str) -> click.Command:
    @click.command(name, help=_ABOUT[name])
    @corpora_argument
    @run_options
    def command(**options: Any) -> None:
        run_stages((name,), {}, name, **options)

    return command


@click.command()
@click.argument("pipeline")
@corpora_argument
@run_options
def run(pipeline: str, **options: Any) -> None:
    """Run the stages of a pipeline file in one pass.

    PIPELINE is a name (`mer-prep run list` lists them) or the path of a .toml file.

    Every worker (--jobs) takes about 250 MiB, and up to 512 MiB more for the decoded frames of
    clips of up to 256 frames. Longer clips take no more, of whatever length; their frames are
    decoded once for landmarks and once for alignment.
    """
    from mer_prep.pipeline import pipeline_names, read_pipeline

    if pipeline == "list":
        rows = [(one, read_pipeline(one).title) for one in pipeline_names()]
        echo(table(rows, ("pipeline", "title")))
        return
    read = read_pipeline(pipeline)
    run_stages(read.stages, read.settings, f"run {read.name}", **options)


@click.command()
@click.argument("name", required=False)
@json_option
def stages(name: str | None, as_json: bool) -> None:
    """List the stages and their parameters, or show one.

    A parameter is changed by --set STAGE.KEY=VALUE on any command that runs stages.
    """
    from mer_prep.checks import check_option
    from mer_prep.stages import all_stages
    from mer_prep.stages.base import describe, describe_source

    kinds = all_stages()
    if name is not None:
        check_option("stage", name, ("source", *kinds))
    described = [describe(kind) for one, kind in kinds.items() if name in (None, one)]
    if name in (None, "source"):
        described.insert(0, describe_source())
    if as_json:
        print_json(described)
        return
    for one in described:
        needs = f", after {', '.join(one['requires'])}" if one["requires"] else ""
        version = f"version {one['version']}{needs}" if one["version"] else "what all stages see"
        echo(f"{one['name']} ({version})")
        for field in one["fields"]:
            echo(f"  gives {field['name']}: {field['dtype']} ({field['axes']}), {field['units']}")
        for parameter in one["parameters"]:
            echo(f"  {one['name']}.{parameter['name']}={parameter['default']}")
            if name is not None:
                echo(f"      {parameter['about']}")
    if name is None:
        echo("`mer-prep stages NAME` explains the parameters of a stage")


def run_stages(
    wanted: tuple[str, ...],
    defaults: Mapping[str, Mapping[str, Any]],
    title: str,
    *,
    corpora: tuple[str, ...],
    settings: tuple[str, ...],
    jobs: int,
    engine: str,
    scheduler: str | None,
    patience: int,
    share: tuple[int, int],
    subjects: tuple[str, ...],
    on_error: str,
    dry_run: bool,
    force: bool,
    workspace: Workspace,
    as_json: bool,
) -> None:
    """Plan and run stages, print what became of it, and leave with the exit code of the design."""
    from mer_prep.config import merge_settings, parse_settings
    from mer_prep.progress import Progress
    from mer_prep.stages import all_stages
    from mer_prep.stages.base import build_stages
    from mer_prep.stages.failures import record_failures
    from mer_prep.stages.plan import Recipe, make_plan
    from mer_prep.stages.runner import Runner

    _check_scheduler(engine, scheduler)
    recipe = Recipe(
        *build_stages(all_stages(), wanted, merge_settings(defaults, parse_settings(settings)))
    )
    names = workspace.select(corpora)
    _check_subjects(workspace, names, subjects)
    _check_sources(workspace, names)
    with Progress("reading frames") as reading:
        plans = make_plan(
            workspace,
            names,
            recipe,
            force=force,
            share=share,
            subjects=subjects,
            progress=reading,
        )
    if dry_run:
        _print_plan(plans, as_json)
        _print_space(plans, recipe, workspace)
        return
    _print_space(plans, recipe, workspace)
    if any(shard.stage == "landmarks" for plan in plans for shard in plan.missing):
        from mer_prep.ops.predictor import LICENCE_NOTE

        echo(f"note: {LICENCE_NOTE}", err=True)
    with Progress(title) as progress:
        runner = Runner(
            workspace,
            recipe,
            jobs=jobs,
            engine=engine,
            scheduler=scheduler,
            patience=patience,
            on_error=on_error,
            progress=progress,
            say=progress.say,
        )
        summary = runner.run(plans)
    record_failures(workspace, plans, recipe, summary)
    if not as_json:
        _print_apex_notes(plans, recipe)
        if "apex" in wanted:
            _print_apex_errors(plans)
    _print_summary(title, summary, workspace, recipe, as_json)


def _check_scheduler(engine: str, scheduler: str | None) -> None:
    if scheduler is not None and engine != "dask":
        from mer_prep.errors import ConfigError

        raise ConfigError(
            f"--scheduler is the address of a Dask scheduler, and the engine is '{engine}'.",
            hint=f"add --engine dask, or leave out --scheduler {scheduler}",
        )


def _check_sources(workspace: Workspace, corpora: list[str]) -> None:
    """Refuse a corpus whose folder is gone: every one of its clips would look damaged."""
    from mer_prep.errors import ManifestError

    for corpus in corpora:
        root = workspace.record(corpus).root
        if not Path(root).is_dir():
            raise ManifestError(
                f"The folder of corpus '{corpus}' is gone.",
                where=root,
                hint=f"mount it, or `mer-prep import {corpus} NEWFOLDER` if it has moved; nothing "
                "will have to be computed again. Name the other corpora to go on without it",
            )


def _check_subjects(workspace: Workspace, corpora: list[str], subjects: tuple[str, ...]) -> None:
    if not subjects:
        return
    from mer_prep.checks import check_option

    known = {clip.subject_id for corpus in corpora for clip in workspace.clips(corpus)}
    for subject in subjects:
        check_option("--subject", subject, sorted(known))


def _print_space(plans: list[Any], recipe: Any, workspace: Workspace) -> None:
    """Say how much room a run will take, and warn where there is less."""
    from mer_prep.stages.space import needed_bytes
    from mer_prep.store.files import free_bytes

    needed = needed_bytes(plans, recipe)
    if not needed:
        return
    free = free_bytes(workspace.cache)
    text = f"about {_size(needed)} to write, {_size(free)} free in {workspace.cache}"
    if needed > free:
        echo(
            f"warning: {text}: the run will stop when the disk is full, and lose nothing. Free "
            "some first (`mer-prep gc` shows what nothing needs), or give a --workspace on "
            "another disk",
            err=True,
        )
    else:
        echo(f"note: {text}", err=True)


def _size(count: int) -> str:
    """Return a number of bytes for people."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"


def _print_plan(plans: list[Any], as_json: bool) -> None:
    shards = [shard for plan in plans for shard in plan.shards.values()]
    if as_json:
        print_json(
            [
                {
                    "stage": shard.stage,
                    "corpus": shard.corpus,
                    "subject": shard.subject,
                    "clips": len(shard.clips),
                    "state": "cached" if shard.cached else "to make",
                    "reason": shard.reason,
                    "reused_clips": len(shard.reusable),
                    "path": shard.path,
                }
                for shard in shards
            ]
        )
        return
    missing = [shard for shard in shards if not shard.cached]
    groups: dict[tuple[str, str], list[Any]] = {}
    for shard in missing:
        groups.setdefault((shard.corpus, shard.stage), []).append(shard)
    rows = [
        (stage, corpus, len(group), sum(len(one.clips) for one in group), _reasons(group))
        for (corpus, stage), group in groups.items()
    ]
    if rows:
        echo(table(rows, ("stage", "corpus", "subjects", "clips", "why")))
    cached = len(shards) - len(missing)
    echo(f"dry run: {plural(len(missing), 'shard')} to make, {cached} cached; nothing was done")


def _reasons(shards: list[Any]) -> str:
    """Return why shards of one stage must be made: the commonest reason, and how many others."""
    from collections import Counter

    ((reason, count), *others) = Counter(shard.reason for shard in shards).most_common()
    more = f" ({count} of {len(shards)}; {len(others)} other reasons, --json)" if others else ""
    reused = sum(len(shard.reusable) for shard in shards)
    return reason + more + (f" ({plural(reused, 'clip')} reused)" if reused else "")


#: What stands in for a missing apex under the policies that allow it.
_STAND_INS = {
    "annotated-or-midpoint": "the midpoint of onset and offset is used "
    "(--set {stage}.apex=annotated-or-spotted finds it, annotated leaves them out)",
    "annotated-or-spotted": "the one that was spotted is used (--set {stage}.apex=annotated leaves "
    "them out)",
}


def _print_apex_notes(plans: list[Any], recipe: Any) -> None:
    """Say for how many clips something stands in for an annotated apex."""
    stage = next((name for name, one in recipe.stages.items() if _may_stand_in(one)), None)
    if stage is None:
        return
    clips = [clip for plan in plans for clip in plan.clips]
    for corpus in sorted({clip.corpus for clip in clips}):
        of_corpus = [clip for clip in clips if clip.corpus == corpus]
        without = sum(clip.apex is None for clip in of_corpus)
        if without:
            echo(
                f"  note {corpus}: {without} of {plural(len(of_corpus), 'clip')} have no annotated "
                f"apex; {_STAND_INS[recipe.stages[stage].params.apex].format(stage=stage)}"
            )


def _print_apex_errors(plans: list[Any]) -> None:
    """Say, by corpus, how far the apices found lie from the annotated ones."""
    from mer_prep.stages.survey import apex_errors

    for corpus, errors in apex_errors(plans).items():
        worst = max(errors, key=lambda clip_id: abs(errors[clip_id]))
        mean = sum(map(abs, errors.values())) / len(errors)
        echo(
            f"  {corpus}: the apex found is {mean:.1f} frames from the annotated one on average "
            f"({plural(len(errors), 'clip')}), {abs(errors[worst])} at worst ({worst})"
        )


def _may_stand_in(stage: Any) -> bool:
    """Return whether a stage needs an apex and takes another frame where there is none."""
    params = stage.params
    needed = "onset-apex" in (getattr(params, "pairs", ""), getattr(params, "span", ""))
    return needed and getattr(params, "apex", "") in _STAND_INS


def _left_out_text(count: int, recipe: Any) -> str:
    """Say how many clips lack an annotated key frame, and which settings leave them out."""
    settings = [
        (name, key)
        for name, stage in recipe.stages.items()
        for key in ("onset", "apex", "offset")
        if getattr(stage.params, key, "") == "annotated"
    ]
    which = " or ".join(dict.fromkeys(key for _, key in settings))
    chosen = ", ".join(f"{name}.{key}=annotated" for name, key in settings)
    verbs = ("has", "is") if count == 1 else ("have", "are")
    clips = f"{plural(count, 'clip')} {verbs[0]} no annotated {which}"
    return f"{clips} and {verbs[1]} left out, by {chosen}"


def _print_summary(
    title: str, summary: Any, workspace: Workspace, recipe: Any, as_json: bool
) -> None:
    from mer_prep.progress import duration

    quarantined, left_out = summary.quarantined, summary.left_out
    stages = list(recipe.stages)
    done = len(summary.computed - quarantined - left_out)
    left = summary.clips - done - summary.cached - len(quarantined | left_out)
    if as_json:
        print_json(
            {
                "stages": stages,
                "clips": summary.clips,
                "done": done,
                "not_done": left,
                "cached": summary.cached,
                "quarantined": sorted(quarantined),
                "left_out": sorted(left_out),
                "published": summary.published,
                "seconds": round(summary.seconds, 3),
                "stage_seconds": {
                    name: round(one, 3) for name, one in summary.stage_seconds.items()
                },
                "frames_decoded": summary.decoded,
                "cache": workspace.cache,
                "warnings": summary.warnings,
            }
        )
    else:
        for warning in summary.warnings[:10]:
            echo(f"  note {warning}")
        if len(summary.warnings) > 10:
            echo(f"  ... and {len(summary.warnings) - 10} more notes (--json prints all)")
        if left_out:
            echo(f"  {_left_out_text(len(left_out), recipe)}")
        if quarantined:
            echo(f"  quarantined clips are listed in {workspace.failures}")
        if "flow" in stages and not summary.interrupted:
            say_next(workspace, "mer-prep qc", "mer-prep composite")
    rest = f"{len(left_out)} left out, " if left_out else ""
    rest += f"{left} not done, " if left > 0 else ""
    echo(
        f"{title}: {plural(summary.clips, 'clip')}: {done} done, {summary.cached} cached, "
        f"{len(quarantined)} failed, {rest}{duration(summary.seconds)}, in "
        f"{Path(workspace.cache)}/{{{','.join(stages)}}}",
        err=as_json,
    )
    for error in summary.locked[:1]:
        echo(f"not done, {plural(len(summary.locked), 'subject')}: {error}", err=True)
    if summary.interrupted:
        echo("stopped; the same command goes on where this one ended", err=True)
        raise click.exceptions.Exit(130)
    if summary.locked:
        raise click.exceptions.Exit(4)
    if quarantined:
        raise click.exceptions.Exit(3)


COMMANDS = (*(_stage_command(name) for name in _ABOUT), run, stages)
