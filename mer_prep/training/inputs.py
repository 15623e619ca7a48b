"""What a trained model is applied to: a clip of the workspace, or any video or folder of frames.

A clip that the run tested is read from the shards it was tested with. Everything else goes through
the same stages, with the parameters that the training data were prepared with, in memory.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mer_prep.checks import suggest
from mer_prep.dataset import PreparedClip
from mer_prep.errors import (
    ConfigError,
    ManifestError,
    MotionError,
    NoFaceError,
    ShardError,
    TrainingError,
)
from mer_prep.manifest import Clip, synthetic_mark_of
from mer_prep.protocols import Member
from mer_prep.records import record_text
from mer_prep.sources.clips import measure_video
from mer_prep.sources.frames import (
    VIDEO_SUFFIXES,
    ClipFrames,
    list_frames,
    source_digest,
)
from mer_prep.stages import all_stages
from mer_prep.stages.base import Arrays, build_stages
from mer_prep.stages.plan import Recipe
from mer_prep.stages.worker import check_output
from mer_prep.store.shard import parse_recipe, read_clip, read_header
from mer_prep.store.text import write_atomic
from mer_prep.training.methods import Method
from mer_prep.training.study import ClipEntry, Study, load_clips
from mer_prep.training.weights import NO_CORPUS
from mer_prep.workspace import Workspace

#: File of a run that says how its clips were prepared.
RECIPE = "recipe.json"

#: Label of a clip whose class nobody knows; it is never looked at when a model is applied.
UNKNOWN_LABEL = -1

#: Frames of one expression, at most: a macro-expression of 4 s at 200 frames per second has 800,
#: and all of them are held in memory with their flow.
MOST_FRAMES = 1000


@dataclass(frozen=True)
class Ready:
    """A clip that a model can be applied to.

    Parameters
    ----------
    prepared : PreparedClip
        What the model takes.
    pictures : ndarray, shape (N, S, S, 3), uint8
        The aligned frames in colour.
    transforms : ndarray, shape (N, 2, 3), float64
        Source to aligned px.
    frame_numbers : tuple of int
        Number of every frame.
    synthetic, restricted : bool
        Whether the frames are synthetic, and whether what is made of them may not be passed on.
    label : str, optional
        Name of its class in the run, if it has one.
    notes : tuple of str
        What its preparation has to say.
    """

    prepared: PreparedClip
    pictures: np.ndarray
    transforms: np.ndarray
    frame_numbers: tuple[int, ...]
    synthetic: bool
    restricted: bool
    label: str | None = None
    notes: tuple[str, ...] = ()


def member_of(source: ClipEntry | Clip) -> Member:
    """Return which clip something is, as far as leaks are concerned."""
    if isinstance(source, ClipEntry):
        return Member(
            source.clip_id, source.corpus, source.subject, source.label, source.source_digest
        )
    return Member(
        source.clip_id, source.corpus, source.subject_id, UNKNOWN_LABEL, source.source_digest
    )


def check_shards(workspace: Workspace, study: Study, *, entries: tuple[ClipEntry, ...]) -> None:
    """Raise `ShardError` if shards that clips of a study lie in are gone."""
    wanted = {path for entry in entries for path in entry.shards.values()}
    gone = sorted(path for path in wanted if not (workspace.root / path).is_file())
    if gone:
        raise ShardError(
            f"{len(gone)} of the {len(wanted)} shards that the run was tested with are gone.",
            where=workspace.root / gone[0],
            why=f"the {study.model} can only be scored again on the data it was scored on",
            hint="run the same `mer-prep train` again, which makes them, or name the --workspace "
            "that the run belongs to",
        )


def tested_clip(workspace: Workspace, study: Study, entry: ClipEntry) -> Ready:
    """Return a clip of a study from the shards that it was trained and tested with."""
    check_shards(workspace, study, entries=(entry,))
    (prepared,) = load_clips(workspace.root, dataclasses.replace(study, clips=(entry,)))
    path = workspace.root / entry.shards["align"]
    aligned, _ = read_clip(path, entry.clip_id, ("frames", "transform", "frame_numbers"))
    header = read_header(path)
    return Ready(
        prepared=prepared,
        pictures=aligned["frames"],
        transforms=aligned["transform"],
        frame_numbers=tuple(int(number) for number in aligned["frame_numbers"]),
        synthetic=header.synthetic,
        restricted=header.restricted,
        label=study.classes[entry.label],
    )


def keep_recipe(workspace: Workspace, run: Path, study: Study) -> None:
    """Write how the clips of a study were prepared to ``recipe.json`` in the run's folder.

    With it the weights can be applied to other clips where no shard of the run is at hand.
    """
    write_atomic(run / RECIPE, json.dumps(_shard_recipe(workspace, study), indent=1) + "\n")


def _shard_recipe(workspace: Workspace, study: Study) -> Mapping[str, Any]:
    last = "flow" if "flow" in study.method.datasets() else "align"
    paths = [workspace.root / entry.shards[last] for entry in study.clips]
    path = next((one for one in paths if one.is_file()), None)
    if path is None:
        raise ShardError(
            "Nothing is left that says how the clips of the run were prepared.",
            where=paths[0],
            why="a clip that is aligned in another way is not what the model knows",
            hint="name the --workspace that the run belongs to, or run the same `mer-prep train`",
        )
    recipe = dict(read_header(path).recipe)
    entry = study.clips[paths.index(path)]
    for stage in study.method.datasets():
        there = workspace.root / entry.shards[stage]
        if there.is_file():
            recipe["stages"] = {**recipe["stages"], **read_header(there).recipe["stages"]}
    return recipe


def kept_recipe(path: Path, method: Method) -> Mapping[str, Any]:
    """Return the parameters of the stages that lie in a run.

    Raises
    ------
    TrainingError
        If the file is damaged.
    """
    try:
        facts = parse_recipe(record_text(path))
        for name in method.datasets():
            # Of a stage that is not there, usual parameters would be taken for those of training.
            facts["stages"][name]
        for name in ("pairs", "apex") if "flow" in method.datasets() else ():
            if not isinstance(facts["stages"]["flow"]["params"].get(name, ""), str):
                raise TypeError(f"'{name}' of the flow is no text")
        for one in facts["stages"].values():
            one["version"], one["identity"]
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError),
        RecursionError,
    ) as error:
        raise TrainingError(
            f"The stages of the run cannot be read: {error!s:.200}.",
            where=path,
            hint="delete the file: its shards tell the same, as long as they are there",
        ) from None
    return facts


def recipe_of(workspace: Workspace, run: Path, study: Study) -> tuple[Recipe, tuple[str, ...]]:
    """Return the stages with the parameters that a study was prepared with.

    Where the flow is not an input of the model, its engine is whichever works here.

    Returns
    -------
    recipe : Recipe
        The stages up to the flow.
    notes : tuple of str
        What is not as it was, such as a stage of another version.

    Raises
    ------
    ShardError
        If neither the run nor any of its shards tells the parameters.
    """
    kept = run / RECIPE
    facts = kept_recipe(kept, study.method) if kept.is_file() else _shard_recipe(workspace, study)
    settings: dict[str, Any] = {name: one["params"] for name, one in facts["stages"].items()}
    if "flow" in study.method.datasets():
        settings["flow"] = _flow_settings(settings["flow"], study.method)
    settings["source"] = facts["source"]
    notes = []
    try:
        recipe = Recipe(*build_stages(all_stages(), study.method.stages(), settings))
    except ConfigError as error:
        raise TrainingError(
            f"The clips of the run were prepared as this mer-prep cannot: {error.what}",
            where=kept,
            hint="use the version of mer-prep that the run was trained with",
        ) from None
    for name, stage in recipe.stages.items():
        before = facts["stages"].get(name)
        if before is None:
            continue
        if before["version"] != stage.version:
            notes.append(
                f"stage {name} is of version {stage.version} here and was of version "
                f"{before['version']} in training"
            )
        elif name != "flow" and before["identity"] != stage.identity():
            notes.append(f"stage {name} uses another model or engine than in training")
    return recipe, tuple(notes)


def _flow_settings(trained: Mapping[str, Any], method: Method) -> dict[str, Any]:
    """Return the parameters of the flow of a clip that may have no annotation."""
    settings = dict(trained)
    if not method.sees_flow:
        settings["engine"] = "auto"
    if settings.get("apex") == "annotated" and settings.get("pairs") == "onset-apex":
        # A video or a folder has no annotation.
        settings["apex"] = "annotated-or-spotted"
    return settings


def prepare_clip(
    clip: Clip, recipe: Recipe, method: Method, *, notes: tuple[str, ...] = ()
) -> Ready:
    """Prepare a clip in memory.

    Parameters
    ----------
    clip : Clip
        The clip.
    recipe : Recipe
        The stages, as `recipe_of` gives them.
    method : Method
        What it is prepared for.
    notes : tuple of str
        What else is to be said.

    Raises
    ------
    NoFaceError
        If no frame shows a face.
    MotionError
        If there are too few frames for a sample, or more than an expression has.
    """
    first, last = recipe.source.span(clip)
    if last - first > MOST_FRAMES:
        raise MotionError(
            f"The clip has {last - first:,} frames; one expression has {MOST_FRAMES:,} at most.",
            where=clip.clip_id,
            why="a micro-expression lasts half a second; a model cuts the clip into a few steps",
            hint="name the frames of the expression by --onset and --offset",
        )
    if last - first < method.length:
        raise MotionError(
            f"The clip has {last - first} frames, and the model takes {method.length}.",
            where=clip.clip_id,
            hint="choose a clip, or --onset and --offset, with more frames",
        )
    frames = ClipFrames(clip, first, last)
    results: dict[str, Arrays] = {}
    said: list[str] = []
    for name, stage in recipe.stages.items():
        stage.check()
        try:
            output = stage.run(clip, frames, {one: results[one] for one in stage.requires})
        except NoFaceError as error:
            raise NoFaceError(
                error.what,
                where=error.where,
                why="the model takes aligned faces",
                hint="look at the frames: one upright face must fill a good part of them",
            ) from None
        results[name] = check_output(stage, output)
        said += [f"{name}: {text}" for text in output.warnings]
        if name == "flow" and output.facts.get("apex_source", "annotated") != "annotated":
            said.append(f"apex: {output.facts['apex_source']}, frame {output.facts['apex_number']}")
    aligned = results["align"]
    return Ready(
        prepared=method.prepared(member_of(clip), results, where=clip.clip_id),
        pictures=aligned["frames"],
        transforms=aligned["transform"],
        frame_numbers=tuple(frames.numbers),
        synthetic=clip.synthetic,
        restricted=clip.restricted,
        notes=(*notes, *said),
    )


def clip_of_path(path: Path, *, onset: int | None = None, offset: int | None = None) -> Clip:
    """Return a video file, or a folder of numbered frames, as a clip.

    Parameters
    ----------
    path : Path
        The file or folder.
    onset, offset : int, optional
        First and last frame of the expression: numbers in the names of the frames, or zero-based
        frames of a video. All frames by default.

    Returns
    -------
    Clip
        Its id is the path; nothing tells who is seen. It is restricted, as nothing says that it is
        not, unless the folder is marked as synthetic.

    Raises
    ------
    ManifestError
        If there is nothing of the kind, or a key frame is not there.
    DecodeError
        If the video cannot be read.
    """
    path = path.absolute()
    if path.is_dir():
        found = list_frames(path)
        if not found:
            raise ManifestError(
                "The folder holds no numbered frames.",
                where=path,
                hint="give a folder of .jpg, .png or .bmp frames, or a video file",
            )
        source: dict[str, Any] = {
            "frame_numbers": tuple(number for number, _ in found),
            "frames": tuple(name for _, name in found),
            "root": str(path),
        }
    elif path.suffix.lower() in VIDEO_SUFFIXES:
        count, _, fps = measure_video(path)
        source = {"frame_numbers": tuple(range(count)), "video": path.name, "fps": fps}
        source["root"] = str(path.parent)
    else:
        raise ManifestError(
            "This is neither a video file nor a folder of frames.",
            where=path,
            hint=f"videos end in {', '.join(VIDEO_SUFFIXES)}",
        )
    synthetic = synthetic_mark_of(path) is not None
    clip = Clip(
        clip_id=str(path),
        corpus=NO_CORPUS,
        subject="(unknown)",
        clip=path.stem,
        onset=onset,
        offset=offset,
        synthetic=synthetic,
        restricted=not synthetic,
        **source,
    )
    _check_span(clip)
    return dataclasses.replace(clip, source_digest=source_digest(clip))


def _check_span(clip: Clip) -> None:
    for name in ("onset", "offset"):
        number = getattr(clip, name)
        if number is not None and number not in clip.frame_numbers:
            raise ManifestError(
                f"There is no frame {number} for --{name}.",
                where=clip.clip_id,
                hint=f"frames {clip.frame_numbers[0]} to {clip.frame_numbers[-1]} are there",
            )
    if clip.onset is not None and clip.offset is not None and clip.offset <= clip.onset:
        raise ManifestError(
            f"The offset {clip.offset} does not come after the onset {clip.onset}.",
            where=clip.clip_id,
        )


def find_source(
    workspace: Workspace,
    study: Study,
    given: str,
    *,
    onset: int | None = None,
    offset: int | None = None,
) -> ClipEntry | Clip:
    """Return what a user means: a clip of the run, another of the workspace, or a path.

    Raises
    ------
    ConfigError
        If key frames are given for a clip that has its own.
    ManifestError
        If there is neither such a clip nor such a path; the nearest id is suggested.
    """
    entries = {entry.clip_id: entry for entry in study.clips}
    others: dict[str, Clip] = {}
    if given not in entries and not given.startswith(("/", ".")):
        others = {
            clip.clip_id: clip for one in workspace.corpora() for clip in workspace.clips(one)
        }
    known = entries.get(given) or others.get(given)
    if known is not None:
        if onset is not None or offset is not None:
            raise ConfigError(
                "--onset and --offset are for videos and folders of frames.",
                where=given,
                hint="a clip of the workspace has those of its annotation",
            )
        return known
    path = Path(given)
    if path.exists():
        return clip_of_path(path, onset=onset, offset=offset)
    raise ManifestError(
        f"'{given}' is neither a clip nor a file or folder.{suggest(given, [*entries, *others])}",
        where=workspace.root,
        hint="give a clip id as `mer-prep inspect` takes it, a video file, or a folder of frames",
    )


def ready_source(workspace: Workspace, run: Path, study: Study, source: ClipEntry | Clip) -> Ready:
    """Return a clip that `find_source` found, prepared; errors as of `prepare_clip`."""
    if isinstance(source, ClipEntry):
        return tested_clip(workspace, study, source)
    recipe, notes = recipe_of(workspace, run, study)
    if (source.onset, source.offset) == (None, None):
        notes = (*notes, "all frames count as one expression: no onset and offset are known")
    return prepare_clip(source, recipe, study.method, notes=notes)
