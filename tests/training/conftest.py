"""A small made-up study, and the files that a finished run of it leaves behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from mer_prep.ops.tvl1_torch import torch_here

_AUXILIARY = "flow_endpoint_error_px,landmark_error_eye_centres,landmark_failures,frames"


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Compute with one thread, so that results do not depend on the machine."""
    if not torch_here():
        yield
        return
    from tests.bars import one_thread

    with one_thread():
        yield


@pytest.fixture(scope="module")
def one_core() -> Iterator[None]:
    """Show one core: threads of PyTorch wait busily for one that another test has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: {0})
        yield


@pytest.fixture
def toy_study() -> Callable[..., object]:
    """Return a maker of studies: 3 subjects with 2 clips each, leave-one-subject-out."""
    pytest.importorskip("torch")
    from mer_prep.models.mol import PRESETS
    from mer_prep.protocols import Fold
    from mer_prep.training.recipes import TrainingSettings
    from mer_prep.training.study import ClipEntry, Study

    def make(**changes: object) -> Study:
        entries = tuple(
            ClipEntry(f"toy/s{s}/c{c}", "toy", f"toy/s{s}", c, {}, f"digest-{s}-{c}")
            for s in range(3)
            for c in range(2)
        )
        folds = tuple(
            Fold(
                f"toy/s{s}",
                tuple(one.clip_id for one in entries if one.subject != f"toy/s{s}"),
                tuple(one.clip_id for one in entries if one.subject == f"toy/s{s}"),
            )
            for s in range(3)
        )
        values: dict[str, object] = {
            "model": "mol",
            "preset": "tiny",
            "architecture": PRESETS["tiny"],
            "training": TrainingSettings(steps=2),
            "reduce": 2,
            "start_landmarks": True,
            "labels": "made-up",
            "protocol": "loso",
            "classes": ("down", "up"),
            "seed": 1,
            "shuffled": False,
            "synthetic": True,
            "clips": entries,
            "folds": folds,
        }
        return Study(**values | changes)  # type: ignore[arg-type]

    return make


@pytest.fixture
def store_run(tmp_path: Path) -> Callable[..., Path]:
    """Return a writer of finished runs, from a study and the predicted classes by clip."""
    from mer_prep.training.study import fold_folder, open_run

    def write(name: str, study: object, predicted: Mapping[str, int]) -> Path:
        run = tmp_path / "runs" / name
        open_run(run, study)  # type: ignore[arg-type]
        labels = {one.clip_id: one.label for one in study.clips}  # type: ignore[attr-defined]
        for fold in study.folds:  # type: ignore[attr-defined]
            classes = study.classes  # type: ignore[attr-defined]
            chances = ",".join(f"p_{name}" for name in classes)
            lines = [f"clip_id,corpus,subject,fold,label,predicted,{chances},{_AUXILIARY}"]
            for one in fold.test:
                said = ",".join(
                    str(float(number == predicted[one])) for number in range(len(classes))
                )
                subject = one.rpartition("/")[0]
                facts = f"{one},toy,{subject},{fold.name},{labels[one]},{predicted[one]}"
                lines.append(f"{facts},{said},,,0,0")
            folder = fold_folder(run, fold)
            folder.mkdir(parents=True)
            (folder / "predictions.csv").write_text("\n".join(lines) + "\n")
        return run

    return write
