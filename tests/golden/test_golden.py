"""Outputs of the stages, pinned per stage version.

If this fails after a change of a stage, its output has changed: raise the stage's `version`, so
that no shard of the old output is taken for one of the new, and then run
``python -m tests.golden.test_golden`` to pin the new output. The tolerances allow for what OpenCV
and dlib change between their own versions.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

from mer_prep.sources.corpus import import_corpus
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages import all_stages
from mer_prep.stages.base import Arrays
from mer_prep.synth.corpus import write_corpus

PINNED = Path(__file__).with_name("stages.json")

#: Largest accepted difference of a statistic, in the units of the dataset.
TOLERANCE = {
    "frames": 1.0,
    "landmarks": 0.1,
    "box": 1.0,
    "transform": 0.05,
    "flow": 0.015,
    "strain": 0.005,
    "motion_image": 0.02,
    "difference": 0.5,
    "dynamic_image": 0.1,
    "weights": 0.0001,
    "score": 2.0,
    "key_frames": 1.0,
    "key_frame_numbers": 1.0,
    "confidence": 0.05,
}


def outputs() -> dict[str, Arrays]:
    """Return what every stage gives for one small synthetic clip, at its default parameters."""
    with tempfile.TemporaryDirectory() as folder:
        made = write_corpus("casme2", Path(folder), subjects=1, clips=1, frames=10, seed=5)
        (clip,) = import_corpus("casme2", made.root).clips
        start, stop = clip.expression_span()
        frames = ClipFrames(clip, start, stop)
        results: dict[str, Arrays] = {}
        for name, kind in all_stages().items():
            results[name] = kind().run(clip, frames, results).arrays
    return results


def statistics(array: np.ndarray) -> list[float]:
    """Return the standard deviation, and the means of 48 equal stretches, of the flat array."""
    values = np.asarray(array, np.float64).ravel()
    means = [part.mean() for part in np.array_split(values, min(48, values.size))]
    return [round(float(one), 4) for one in (values.std(), *means)]


def title(name: str) -> str:
    """Return what a stage's output is pinned under: its version, engine, and what it rests on."""
    stage = all_stages()[name]()
    engine = "" if not hasattr(stage.params, "engine") else f", engine {stage.params.engine}"
    rests = "".join(f", {title(required)}" for required in stage.requires)
    return f"{name} version {stage.version}{engine}{rests}"


def measured() -> dict[str, dict[str, list[float]]]:
    return {
        title(name): {
            field: [*map(float, array.shape), *statistics(array)] for field, array in arrays.items()
        }
        for name, arrays in outputs().items()
    }


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, list[float]]]:
    pytest.importorskip("dlib")
    return measured()


@pytest.mark.parametrize("stage", list(all_stages()))
def test_a_stage_gives_what_its_version_gave(
    found: dict[str, dict[str, list[float]]], stage: str
) -> None:
    name = title(stage)
    pinned = json.loads(PINNED.read_text(encoding="utf-8"))
    assert name in pinned, f"pin the output of {name}: python -m tests.golden.test_golden"
    assert found[name].keys() == pinned[name].keys()
    for field, values in pinned[name].items():
        np.testing.assert_allclose(
            found[name][field],
            values,
            atol=TOLERANCE.get(field, 0),
            rtol=0,
            err_msg=f"{name}, {field}: raise the stage's version",
        )


def main() -> None:
    """Pin the output of today's versions; what is pinned already stays as it is."""
    pinned = json.loads(PINNED.read_text(encoding="utf-8")) if PINNED.exists() else {}
    for name, fields in measured().items():
        pinned.setdefault(name, fields)
    PINNED.write_text(json.dumps(pinned, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
