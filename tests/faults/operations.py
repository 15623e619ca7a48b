"""What is swept with faults: everything that the program keeps."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mer_prep.composite import build_composite
from mer_prep.composite_files import check_lines, read_composite_facts, write_composite
from mer_prep.errors import ManifestError
from mer_prep.export.exporter import ExportOptions, write_export
from mer_prep.export.selection import select_items
from mer_prep.export.target import check_target
from mer_prep.labels import read_label_map
from mer_prep.manifest import Clip, ImportRecord, make_clip_id
from mer_prep.manifest_files import read_manifest, read_record, write_manifest
from mer_prep.protocols import Protocol, read_folds
from mer_prep.sources.frames import source_digest
from mer_prep.stages import worker
from mer_prep.stages.base import build_stages
from mer_prep.stages.failures import read_failures, record_failures
from mer_prep.stages.plan import Recipe, make_plan
from mer_prep.stages.runner import Runner
from mer_prep.store import files
from mer_prep.store.cache import Cache
from mer_prep.store.lock import Lock
from mer_prep.store.merge import Header, merge
from mer_prep.store.part import ClipResult, DatasetInfo, write_part
from mer_prep.store.readback import check_shard
from mer_prep.store.shard import Failure
from mer_prep.workspace import Workspace
from tests.conftest import write_frame
from tests.faults.sweep import Contents, Operation
from tests.invented_corpora import smic
from tests.toys import TOYS

_KEYS = ("0123456789abcdef" * 4, "fedcba9876543210" * 4)


def shards_in(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all published shards by their names."""
    cache = Cache(folder / "cache")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in cache.shards()}


def stored(folder: Path) -> Contents:
    """Return the arrays and attributes of all published shards; without their time of making."""
    found: dict[str, object] = {}

    def note(name: str, item: Any) -> None:
        facts = {key: str(value) for key, value in item.attrs.items()}
        array = item[()].tolist() if isinstance(item, h5py.Dataset) else None
        found[f"{path.relative_to(folder)} {name}"] = (facts, array)

    for path in Cache(folder / "cache").shards():
        with h5py.File(path) as file:
            facts = {key: str(value) for key, value in file.attrs.items() if key != "created"}
            found[str(path.relative_to(folder))] = facts
            file.visititems(note)
    return found


def shards_are_whole(folder: Path, before: Contents, after: Contents) -> None:
    """Check every visible shard, and that it is one of those before or after."""
    for path in Cache(folder / "cache").shards():
        check_shard(path)
    known = {**before, **after}
    for name, contents in stored(folder).items():
        assert contents == known.get(name), f"{name} is neither as before nor as after"


# A shard.


def toy_clip(root: Path, name: str, subject: str = "sub01", shade: int = 100) -> Clip:
    """Write the frames of a clip, unless they are there, and return it."""
    numbers = (8, 9, 10, 11, 12)
    frames = tuple(f"{subject}/{name}/img{number}.png" for number in numbers)
    for number, frame in zip(numbers, frames, strict=True):
        if not (root / frame).exists():
            write_frame(root / frame, shade + number)
    made = Clip(
        clip_id=make_clip_id("toy", subject, name),
        corpus="toy",
        subject=subject,
        clip=name,
        root=str(root),
        frame_numbers=numbers,
        frames=frames,
        fps=200.0,
        onset=8,
        apex=10,
        offset=12,
        apex_source="annotated",
        emotion="happiness",
        emotion_raw="happiness",
    )
    return dataclasses.replace(made, source_digest=source_digest(made))


def _header() -> Header:
    return Header(
        stage="flow",
        stage_version=3,
        params={"method": "tvl1"},
        recipe={"source": {}},
        requires=("align",),
        libraries={"numpy": "2"},
        corpus="toy",
        subject="sub01",
        restricted=True,
        synthetic=False,
        datasets=("flow",),
    )


def _publish(folder: Path, key: str, clips: Sequence[Clip]) -> None:
    parts = {}
    for number, clip in enumerate(clips):
        flow = np.random.default_rng(number).normal(size=(3, 2, 30, 30)).astype(np.float32)
        infos = {"flow": DatasetInfo("px", "pair channel y x", "u v")}
        result = ClipResult(clip, "c" * 64, clip.frame_numbers, {"flow": flow}, infos)
        parts[clip.clip_id] = Cache(folder / "cache").part("flow", f"{number}{key}")
        write_part(parts[clip.clip_id], result, stage="flow", recipe={})
    target = Cache(folder / "cache").shard("flow", key, "toy", "sub01")
    failure = Failure("toy/sub01/EP09_09", "align", "NoFaceError", "There is no face.", "f" * 64)
    with Lock(target):
        merge(target, _header(), key, parts, [failure])
    for path in parts.values():
        files.discard_all_of(path)


def _shard(sources: Path) -> Operation:
    clips = [toy_clip(sources, "EP01_01"), toy_clip(sources, "EP02_01", shade=60)]
    return Operation(
        name="shard",
        prepare=lambda folder: _publish(folder, _KEYS[0], clips[:1]),
        run=lambda folder: _publish(folder, _KEYS[1], clips),
        result=stored,
        check=shards_are_whole,
        kept=shards_in,
    )


# Stages over a corpus.


def _toys(sources: Path) -> list[Clip]:
    return [
        toy_clip(sources, "EP01_01"),
        toy_clip(sources, "EP02_01", shade=140),
        toy_clip(sources, "EP03_01", shade=70),
        toy_clip(sources, "EP01_01", subject="sub02", shade=90),
    ]


def _store(folder: Path, clips: Sequence[Clip]) -> None:
    record = ImportRecord(corpus="toy", source="clips", root=clips[0].root)
    write_manifest(Workspace(folder).manifests, clips, record)


def _recipe() -> Recipe:
    worker.all_stages = lambda: TOYS  # in a process of its own
    return Recipe(*build_stages(TOYS, ("change",), {"means": {"refuse": "EP02_01"}}))


def _run_stages(folder: Path, subjects: tuple[str, ...] = ()) -> None:
    workspace, recipe = Workspace(folder), _recipe()
    plans = make_plan(workspace, ["toy"], recipe)
    if subjects:
        plans = [plan for plan in plans if plan.subject in subjects]
    summary = Runner(workspace, recipe).run(plans)
    record_failures(workspace, plans, recipe, summary)
    if summary.crashes:
        raise OSError(summary.crashes[0].crash)
    if summary.locked:
        raise summary.locked[0]


def _stages(sources: Path) -> Operation:
    clips = _toys(sources)

    def prepare(folder: Path) -> None:
        _store(folder, clips)
        _run_stages(folder, ("sub02",))

    def result(folder: Path) -> Contents:
        return {**stored(folder), "failures": read_failures(folder / "failures.jsonl")}

    def check(folder: Path, before: Contents, after: Contents) -> None:
        shards_are_whole(folder, before, after)
        listed = read_failures(folder / "failures.jsonl")
        assert listed in (before["failures"], after["failures"])

    return Operation("stages", prepare, _run_stages, result, check, shards_in)


# Manifests and composites.


def _import(sources: Path) -> Operation:
    clips = _toys(sources)

    def result(folder: Path) -> Contents:
        return {"clips": Workspace(folder).clips("toy"), "record": Workspace(folder).record("toy")}

    def check(folder: Path, before: Contents, after: Contents) -> None:
        read_manifest(folder / "manifests" / "toy.jsonl")
        read_record(folder / "manifests" / "toy.json")
        try:
            found = result(folder)
        except ManifestError as error:
            found = {} if "import the corpus again" in str(error) else {"another error": error}
        assert found in ({}, before, after)

    return Operation(
        "import",
        lambda folder: _store(folder, clips[:2]),
        lambda folder: _store(folder, clips),
        result,
        check,
    )


def _combine(folder: Path, labels: str, protocol: Protocol) -> None:
    # Fewer clips the first time, so that the lists differ.
    clips = smic()[: 100 if protocol.name == "loso" else None]
    made = build_composite(clips, read_label_map(labels), protocol=protocol)
    write_composite(folder, made)


def _composite(sources: Path) -> Operation:
    def result(folder: Path) -> Contents:
        names = ("composite.jsonl", "composite.json", "folds.json", "left-out.csv")
        return {name: (folder / name).read_bytes() for name in names}

    def check(folder: Path, before: Contents, after: Contents) -> None:
        for name, contents in result(folder).items():
            assert contents in (before[name], after[name]), f"{name} is torn"
        read_folds(folder / "folds.json")
        path = folder / "composite.jsonl"
        facts = read_composite_facts(folder)
        assert facts is not None
        try:
            check_lines(path.read_bytes(), facts, where=path)
        except ManifestError:
            return
        of = (
            before
            if (folder / "composite.json").read_bytes() == before["composite.json"]
            else after
        )
        assert path.read_bytes() == of["composite.jsonl"], "two composites are mixed"

    return Operation(
        "composite",
        lambda folder: _combine(folder, "megc2019-3", Protocol("loso")),
        lambda folder: _combine(folder, "megc2019-3", Protocol("k-fold", folds=4)),
        result,
        check,
    )


# Exports.


def _export(folder: Path, stage: str, options: ExportOptions) -> None:
    workspace, recipe = Workspace(folder), _recipe()
    out = folder / "out" / "export"
    check_target(out, replace=True, sources=[])
    write_export(select_items(workspace, ["toy"], recipe, stage), out, options)


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _exports(format: str) -> Callable[[Path], Operation]:
    def make(sources: Path) -> Operation:
        clips = _toys(sources)

        def prepare(folder: Path) -> None:
            _store(folder, clips)
            _run_stages(folder)
            _export(folder, "means", ExportOptions("npy"))

        def run(folder: Path) -> None:
            _export(folder, "change", ExportOptions(format, samples_per_shard=2))

        def result(folder: Path) -> Contents:
            return _files(folder / "out" / "export")

        def check(folder: Path, before: Contents, after: Contents) -> None:
            out = folder / "out" / "export"
            if not out.exists():  # between two names: the earlier one waits beside it
                (out,) = (folder / "out").glob("*.old")
            assert _files(out) in (before, after), "the export is neither the old nor the new one"

        return Operation(f"export to {format}", prepare, run, result, check, shards_in)

    return make


# Training.


def _training(sources: Path) -> Operation:
    from mer_prep.dataset import ClipStore
    from mer_prep.training.checkpoints import read_checkpoint
    from mer_prep.training.machine import Machine
    from mer_prep.training.recipes import TrainingSettings
    from mer_prep.training.selection import Selection
    from mer_prep.training.study import fold_folder, open_run, run_fold
    from tests.bars import CLIPS, FOLDS, SMALLEST, study

    training = TrainingSettings(steps=3, batch=4, learning_rate=1e-3)
    made = study(
        architecture=SMALLEST, training=training, selection=Selection("inner", 3, held_out=0.5)
    )
    where = Path("runs") / "run"
    folds = [fold_folder(where, fold) for fold in FOLDS[:2]]

    def train(folder: Path, numbers: Sequence[int]) -> None:
        import torch

        torch.set_num_threads(1)
        open_run(folder / where, made)
        for number in numbers:
            with Lock(folder / folds[number] / "fold"):
                if not (folder / folds[number] / "predictions.csv").is_file():
                    machine = Machine(checkpoint_every=2)
                    run_fold(folder / where, made, FOLDS[number], ClipStore(CLIPS), machine)

    def result(folder: Path) -> Contents:
        found: dict[str, object] = {}
        for fold in folds:
            for path in sorted((folder / fold).glob("*")):
                name = path.relative_to(folder).as_posix()
                if path.suffix == ".safetensors":
                    tensors, step, facts = read_checkpoint(path)
                    arrays = {one: tensor.tolist() for one, tensor in tensors.items()}
                    found[name] = (arrays, step, facts)
                elif path.suffix == ".json":
                    # How long it took is the one thing that no two runs have in common.
                    found[name] = json.loads(path.read_text()) | {"training_seconds": None}
                else:
                    found[name] = path.read_bytes()
        return found

    def check(folder: Path, before: Contents, after: Contents) -> None:
        for fold in folds:
            for path in (folder / fold).glob("*.safetensors"):
                read_checkpoint(path)
            for path in (folder / fold).glob("predictions.csv"):
                assert path.read_bytes() == after[path.relative_to(folder).as_posix()]

    def kept(folder: Path) -> Mapping[str, bytes]:
        return _files(folder / folds[0])

    train(sources, [0])  # so that processes to come find PyTorch ready
    return Operation(
        "training",
        lambda folder: train(folder, [0]),
        lambda folder: train(folder, [0, 1]),
        result,
        check,
        kept,
        informal=frozenset((one / "log.csv").as_posix() for one in folds),
    )


#: Makers of the operations, by name; each is given a folder for source frames.
OPERATIONS: Mapping[str, Callable[[Path], Operation]] = {
    "shard": _shard,
    "stages": _stages,
    "import": _import,
    "composite": _composite,
    "export npy": _exports("npy"),
    "export webdataset": _exports("webdataset"),
    "training": _training,
}
