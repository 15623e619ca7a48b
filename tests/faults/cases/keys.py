"""Results that are out of date, and the same work done in another order or by several machines."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

from mer_prep.config import canonical_json
from mer_prep.manifest import Clip, ImportRecord, make_clip_id
from mer_prep.manifest_files import write_manifest
from mer_prep.stages.base import build_stages
from mer_prep.stages.plan import Recipe, make_plan
from mer_prep.stages.runner import Runner
from mer_prep.stages.summary import RunSummary
from mer_prep.store import key
from mer_prep.store.cache import Cache
from mer_prep.store.readback import check_shard
from mer_prep.store.shard import read_clip, read_header
from mer_prep.workspace import Workspace
from tests.conftest import write_frame
from tests.faults.catalogue import Tries, fault, instead
from tests.toys import TOYS, Change, Means, process_toy_clip

_SUBJECTS, _CLIPS, _FRAMES = 3, 2, 4


def corpus(sources: Path) -> list[Clip]:
    """Write a corpus of three subjects with two clips of four frames each."""
    clips: list[Clip] = []
    for subject in (f"sub{number:02d}" for number in range(1, _SUBJECTS + 1)):
        for name in (f"EP{number:02d}" for number in range(1, _CLIPS + 1)):
            numbers = tuple(range(8, 8 + _FRAMES))
            frames = tuple(f"{subject}/{name}/img{number}.png" for number in numbers)
            for place, frame in enumerate(frames):
                write_frame(sources / frame, 40 + 30 * len(clips) + place)
            made = Clip(
                clip_id=make_clip_id("toy", subject, name),
                corpus="toy",
                subject=subject,
                clip=name,
                root=str(sources),
                frame_numbers=numbers,
                frames=frames,
                fps=200.0,
                onset=8,
                apex=9,
                offset=11,
                apex_source="annotated",
                emotion="happiness",
                emotion_raw="happiness",
            )
            clips.append(made)
    return clips


def store(workspace: Workspace, clips: Sequence[Clip]) -> None:
    """Write the manifest of the corpus."""
    record = ImportRecord(corpus="toy", source="clips", root=clips[0].root)
    write_manifest(workspace.manifests, clips, record)


def recipe(**settings: dict[str, Any]) -> Recipe:
    """Return the recipe of both toy stages."""
    return Recipe(*build_stages(TOYS, ("change",), settings))


def run(workspace: Workspace, used: Recipe, *, jobs: int = 1, **options: Any) -> RunSummary:
    """Run both stages, in this process or in others."""
    plans = make_plan(workspace, ["toy"], used, **options)
    with mock.patch("mer_prep.stages.runner.process_clip", process_toy_clip):
        summary = Runner(workspace, used, jobs=jobs).run(plans)
    assert not summary.crashes, summary.crashes
    return summary


def missing(workspace: Workspace) -> set[Path]:
    """Return the shards that a run would make."""
    plans = make_plan(workspace, ["toy"], recipe())
    return {shard.path for plan in plans for shard in plan.missing}


def contents(workspace: Workspace) -> dict[str, object]:
    """Return all that the shards of a workspace hold but when they were made, by their places."""
    found: dict[str, object] = {}
    for path in Cache(workspace.cache).shards():
        check_shard(path)
        header = read_header(path)
        clips = {}
        for clip_id in header.clips:
            arrays, facts = read_clip(path, clip_id)
            values = {name: (array.dtype.str, array.tolist()) for name, array in arrays.items()}
            clips[clip_id] = (values, facts)
        says = {name: value for name, value in vars(header).items() if name != "path"}
        says["created"] = None
        found[path.relative_to(workspace.cache).as_posix()] = (says, clips)
    return found


# What makes a result stale.

_ALL = {"means", "change"}


@dataclasses.dataclass(frozen=True)
class Way:
    """A change, the stages that it makes stale of which clips, and what is said of it."""

    name: str
    stages: set[str]
    reason: str
    clips: set[str] | None = None  # all of them
    settings: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    patch: Any = None


def ways(clips: Sequence[Clip]) -> Iterator[Way]:
    """Yield the changes."""
    for gain in (0.5, 1.0000001, 2.0, -1.0):
        yield Way("gain", _ALL, "means.gain: 1.0 -> ", settings={"means": {"gain": gain}})
    for power in (2, 3, 4):
        settings = {"change": {"power": power}}
        yield Way("power", {"change"}, f"change.power: 1 -> {power}", settings=settings)
    every = {"source": {"frames": "all"}}
    yield Way("frames", _ALL, "source.frames: expression -> all", settings=every)
    for version in (0, 2, 10):
        for stage in (Means, Change):
            stale = _ALL if stage is Means else {"change"}
            text = f"{stage.name} stage version: 1 -> {version}"
            newer = mock.patch.object(stage, "version", version)
            yield Way("version", stale, text, patch=newer)
    for library in ("numpy", "opencv"):
        used = mock.patch.object(Means, "libraries", (library,))
        yield Way("library", _ALL, f"{library} (means): unset -> ", patch=used)
    model = mock.patch.object(Means, "identity", return_value={"model": "abc"})
    yield Way("model", _ALL, "model (means): unset -> abc", patch=model)
    for clip in clips:
        one = {clip.clip_id}
        for frame in range(_FRAMES):
            yield Way(f"frame {frame}", _ALL, "frames or key frames changed: ", one)
            yield Way(f"touch {frame}", set(), "", one)
        changed = "frames or key frames changed: "
        yield Way("key frame", {"change"}, changed, one, facts={"apex": 10})
        yield Way("key frame", _ALL, changed, one, facts={"onset": 9})
        yield Way("key frame", _ALL, changed, one, facts={"offset": 10})
        for fact in ({"fps": 100.0}, {"emotion": "anger"}, {"action_units": (4,)}):
            yield Way("annotation", set(), "", one, facts=fact)


@contextmanager
def changed(way: Way, workspace: Workspace, clips: Sequence[Clip]) -> Iterator[None]:
    """Change what a way says, and change it back."""
    kept = {}
    kind, _, number = way.name.partition(" ")
    for clip in clips if kind in ("frame", "touch") else ():
        if clip.clip_id in (way.clips or ()):
            path = Path(clip.root, clip.frames[int(number)])
            kept[path] = path.read_bytes()
            if kind == "frame":
                path.write_bytes(kept[path] + b"\0")
            else:
                os.utime(path, ns=(10**18, 10**18))
    if way.facts:
        store(
            workspace,
            [
                dataclasses.replace(clip, **way.facts)
                if clip.clip_id in (way.clips or ())
                else clip
                for clip in clips
            ],
        )
    try:
        with way.patch or nullcontext():
            yield
    finally:
        for path, data in kept.items():
            path.write_bytes(data)
        store(workspace, clips)


def _key_without(*parts: str) -> Callable[[dict[str, Any]], str]:
    return lambda facts: key.digest({k: v for k, v in facts.items() if k not in parts})


def _digest_of_times(clip: Clip) -> str:
    return str([os.stat(Path(clip.root, frame)).st_mtime_ns for frame in clip.frames])


@fault(
    25,
    "a parameter, version, library, model, frame or key frame that has changed; a touched file",
    without={
        f"{part} in the keys": instead("mer_prep.stages.plan.digest", _key_without(part))
        for part in ("params", "version", "libraries", "identity", "requires", "key_frames")
    }
    | {
        "frames in the keys": instead("mer_prep.stages.plan.digest", _key_without("source")),
        "digests of what is in the frames": instead(
            "mer_prep.sources.index.source_digest", _digest_of_times
        ),
        "the reasons of the plan": instead("mer_prep.stages.plan._changes", lambda old, new: []),
    },
)
def stale_results(tries: Tries) -> None:
    clips = corpus(tries.fresh())
    workspace = Workspace(tries.fresh())
    store(workspace, clips)
    run(workspace, recipe())
    published = {path: path.read_bytes() for path in Cache(workspace.cache).shards()}
    every = list(ways(clips))
    for way in tries.of(every[:40] if tries.quick else every, quick=len(every)):
        with changed(way, workspace, clips):
            used = recipe(**way.settings)
            plans = make_plan(workspace, ["toy"], used)
            stale = [(plan.subject, shard) for plan in plans for shard in plan.missing]
            ids = {clip.clip_id for clip in clips} if way.clips is None else way.clips
            subjects = {clip.subject for clip in clips if clip.clip_id in ids}
            expected = {(subject, stage) for subject in subjects for stage in way.stages}
            assert {(subject, shard.stage) for subject, shard in stale} == expected, way
            for _, shard in stale:
                assert way.reason in shard.reason, f"{way.name}: {shard.reason}"
            if tries.quick and way.name not in ("frame 0", "touch 0"):
                continue
            computed = run(workspace, used).computed
            assert computed == (ids if way.stages else set()), f"{way.name}: {computed}"
        for path, data in published.items():
            assert path.read_bytes() == data, f"{way.name}: {path} has changed"
        for path in set(Cache(workspace.cache).shards()) - set(published):
            path.unlink()  # or the next change is told against this one
    assert not make_plan(workspace, ["toy"], recipe())[0].missing


# The same work in another order.


def _whole(folder: Path, clips: Sequence[Clip], *, jobs: int = 1) -> Workspace:
    workspace = Workspace(folder)
    store(workspace, clips)
    run(workspace, recipe(), jobs=jobs)
    return workspace


def _in_shares(folders: Sequence[Path], clips: Sequence[Clip]) -> Workspace:
    """Run a share on each of several machines and gather their caches into the first."""
    for number, folder in enumerate(folders, start=1):
        workspace = Workspace(folder)
        store(workspace, random.Random(number).sample(clips, len(clips)))
        run(workspace, recipe(), share=(number, len(folders)))
    first = Workspace(folders[0])
    for folder in folders[1:]:
        if Workspace(folder).cache.is_dir():  # not if there were fewer subjects than machines
            shutil.copytree(Workspace(folder).cache, first.cache, dirs_exist_ok=True)
    assert run(first, recipe()).computed == set(), "something was computed again"
    return first


@fault(
    39,
    "one process or several, a shuffled manifest, and shares of the work put together",
    without={
        "one order of what makes a key": instead(
            "mer_prep.store.key.canonical_json",
            lambda parts: repr(parts) if "clips" in parts else canonical_json(parts),
        ),
    },
)
def any_order(tries: Tries) -> None:
    clips = corpus(tries.fresh())
    whole = contents(_whole(tries.fresh(), clips))
    assert len(whole) == 2 * _SUBJECTS
    shuffles = [random.Random(seed).sample(clips, len(clips)) for seed in range(8)]
    for shuffled in tries.of([clips[::-1], *shuffles], quick=2):
        assert contents(_whole(tries.fresh(), shuffled)) == whole
    for count in tries.of([2, 3, 4, 7], quick=2):
        folders = [tries.fresh() for _ in range(count)]
        assert contents(_in_shares(folders, clips)) == whole
    if not tries.quick:
        for jobs in tries.of([2, 4]):
            assert contents(_whole(tries.fresh(), shuffles[0], jobs=jobs)) == whole
