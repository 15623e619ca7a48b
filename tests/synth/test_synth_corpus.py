from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from openpyxl import load_workbook

from mer_prep.errors import ConfigError, ManifestError
from mer_prep.manifest import SYNTHETIC_MARK
from mer_prep.synth.corpus import write_corpus
from mer_prep.synth.layouts import LAYOUTS
from mer_prep.synth.truth import TRUTH_NAME, read_truth, true_flow, truth_clips

SMALL = {"subjects": 2, "clips": 2, "frames": 6, "variant": "cropped"}


def cells(path):
    book = load_workbook(path)
    return {sheet.title: list(sheet.iter_rows(values_only=True)) for sheet in book}


def tree(root):
    return {p.relative_to(root).as_posix(): p for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def casme2(tmp_path_factory):
    return write_corpus("casme2", tmp_path_factory.mktemp("corpora"), **SMALL)


def test_the_corpus_is_the_same_however_many_jobs(casme2, tmp_path):
    steps = []
    again = write_corpus(
        "casme2",
        tmp_path,
        jobs=2,
        progress=lambda done, total: steps.append((done, total)),
        **SMALL,
    )
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert again.clips == casme2.clips
    here, there = tree(again.root), tree(casme2.root)
    assert list(here) == list(there)
    for name, path in here.items():
        if path.suffix == ".xlsx":
            assert cells(path) == cells(there[name])
        else:
            assert path.read_bytes() == there[name].read_bytes(), name


def test_other_seeds_give_other_frames(casme2, tmp_path):
    other = write_corpus("casme2", tmp_path, seed=1, **{**SMALL, "subjects": 1, "clips": 1})
    layout, (clip, *_) = LAYOUTS["casme2"], other.clips
    first = other.root / layout.frame_path(clip, clip.onset, "cropped")
    mine = casme2.root / layout.frame_path(casme2.clips[0], casme2.clips[0].onset, "cropped")
    assert first.read_bytes() != mine.read_bytes()


def test_what_is_reported_is_on_disk(casme2):
    layout = LAYOUTS["casme2"]
    assert casme2.written
    assert (casme2.root / "SYNTHETIC.txt").is_file()
    assert casme2.frames == 24
    paths = [
        casme2.root / layout.frame_path(clip, number, "cropped")
        for clip in casme2.clips
        for number in layout.numbers(clip, "cropped")
    ]
    assert len(paths) == 24
    for path in paths:
        assert cv2.imread(str(path)).shape == (340, 280, 3)
    assert [path.name for path in casme2.annotations] == [
        "CASME2-coding-20140508.xlsx",
        "CASME2-ObjectiveClasses.xlsx",
    ]
    header, *rows = cells(casme2.annotations[0])["Sheet1"]
    assert header[0] == "Subject"
    assert [(int(row[0]), row[1], row[3], row[5]) for row in rows] == [
        (clip.subject, clip.clip, clip.onset, clip.offset) for clip in casme2.clips
    ]
    assert not [p for p in casme2.root.parent.iterdir() if p.name.endswith(".partial")]


def test_the_marker_says_what_the_frames_are(casme2):
    text = (casme2.root / SYNTHETIC_MARK).read_text(encoding="utf-8")
    assert text.startswith("SYNTHETIC")
    assert "Hopper" in text
    assert "Mona Lisa" in text
    assert text.count("ublic domain") >= 3
    record = json.loads(text.splitlines()[-1].removeprefix("record: "))
    assert record["parameters"]["seed"] == 0
    assert record["annotations"] == ["CASME2-coding-20140508.xlsx", "CASME2-ObjectiveClasses.xlsx"]


def test_truth_is_read_by_clip(casme2):
    names = truth_clips(casme2.truth)
    assert names == sorted(f"sub{clip.subject:02d}/{clip.clip}" for clip in casme2.clips)
    for clip in casme2.clips:
        truth = read_truth(casme2.root, f"casme2/sub{clip.subject:02d}/{clip.clip}")
        assert_array_equal(truth.numbers, np.arange(clip.onset, clip.offset + 1))
        assert truth.landmarks.shape == (6, 68, 2)
        assert truth.landmarks.dtype == np.float32
        assert (truth.facts["onset"], truth.facts["offset"]) == (clip.onset, clip.offset)
        # Also where the annotation has none, as in the last clip.
        assert clip.apex in (truth.facts["apex"], None)
        assert clip.onset < truth.facts["apex"] < clip.offset
        assert truth.facts["action_units"] == clip.action_units
        assert truth.size == (280, 340)


def test_true_flow_agrees_with_the_frames_on_disk(tmp_path):
    made = write_corpus(
        "samm", tmp_path, subjects=1, clips=1, frames=6, noise=0.0, amplitude=(1.5, 1.5)
    )
    (clip,) = made.clips
    layout = LAYOUTS["samm"]
    a, b = clip.apex, clip.offset
    first, second = (
        cv2.imread(str(made.root / layout.frame_path(clip, n, "official")), cv2.IMREAD_UNCHANGED)
        for n in (a, b)
    )
    assert first.shape == (650, 960)
    flow = true_flow(made.truth, f"006/{clip.clip}", a, b)
    assert flow.shape == (2, 650, 960)
    x, y = np.meshgrid(np.arange(960, dtype=np.float32), np.arange(650, dtype=np.float32))
    warped = cv2.remap(second, x + flow[0], y + flow[1], cv2.INTER_CUBIC).astype(float)
    inner = (slice(20, -20), slice(20, -20))
    still = np.abs(second.astype(float) - first)[inner].mean()
    moved = np.abs(warped - first)[inner].mean()
    # What is left is compression.
    assert moved < 1.3
    assert moved < 0.4 * still


def test_truth_names_what_it_does_not_hold(casme2, tmp_path):
    with pytest.raises(ManifestError, match="Did you mean 'sub01/EP02_01f'"):
        read_truth(casme2.truth, "sub01/EP02_1f")
    with pytest.raises(ManifestError, match="no frame 7"):
        true_flow(casme2.truth, "sub01/EP02_01f", 7, 8)
    with pytest.raises(ManifestError, match="cannot be opened"):
        truth_clips(tmp_path / TRUTH_NAME)


def test_flow_in_the_file_is_that_of_the_clip(casme2):
    clip = casme2.clips[0]
    name = f"sub{clip.subject:02d}/{clip.clip}"
    truth = read_truth(casme2.truth, name)
    flow = true_flow(casme2.truth, name, clip.onset, clip.apex)
    x, y = 120, 200
    assert_allclose(
        flow[:, y, x],
        truth.move(np.array([x, y], float), clip.onset, clip.apex) - [x, y],
        atol=1e-5,
    )


def test_a_second_run_does_nothing_and_other_parameters_replace(tmp_path):
    small = {**SMALL, "subjects": 1, "clips": 1}
    first = write_corpus("casme2", tmp_path, **small)
    times = {name: path.stat().st_mtime_ns for name, path in tree(first.root).items()}
    again = write_corpus("casme2", tmp_path, **small)
    assert not again.written
    assert again.annotations == first.annotations
    assert {name: path.stat().st_mtime_ns for name, path in tree(first.root).items()} == times
    other = write_corpus("casme2", tmp_path, **{**small, "frames": 7, "quirks": False})
    assert other.written
    frames = [path for path in tree(other.root).values() if path.suffix == ".jpg"]
    assert len(frames) == other.frames == 7


@pytest.mark.parametrize("content", [None, "no record here", "record: {}", "record: nonsense"])
def test_foreign_folders_are_refused(tmp_path, content):
    root = tmp_path / "SMIC"
    root.mkdir()
    (root / "precious.bmp").write_bytes(b"BM")
    if content is not None:
        (root / SYNTHETIC_MARK).write_text(content)
    with pytest.raises(ConfigError, match="not a synthetic corpus"):
        write_corpus("smic", tmp_path, subjects=1, clips=1, frames=6)
    assert (root / "precious.bmp").read_bytes() == b"BM"


def test_an_interrupted_run_leaves_nothing(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_corpus("casme2", tmp_path, progress=stop, **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"subjects": 0}, "subjects"),
        ({"clips": 0}, "clips"),
        ({"frames": 5}, "frames"),
        ({"amplitude": (1.0, 0.5)}, "amplitude"),
        ({"amplitude": (-1.0, 0.5)}, "amplitude"),
        ({"head_motion": 5.0}, "head_motion"),
        ({"noise": -1.0}, "noise"),
        ({"flicker": 0.6}, "flicker"),
        ({"seed": -1}, "seed"),
        ({"jobs": 0}, "jobs"),
        ({"variant": "croped"}, "Did you mean 'cropped'"),
    ],
)
def test_values_out_of_range_are_errors(tmp_path, changes, word):
    with pytest.raises(ConfigError, match=word):
        write_corpus("casme2", tmp_path, **{**SMALL, **changes})
    assert list(tmp_path.iterdir()) == []


def test_unknown_corpora_are_errors(tmp_path):
    with pytest.raises(ConfigError, match="samm"):
        write_corpus("sam", tmp_path)


@pytest.mark.parametrize(
    ("corpus", "variant", "shape"),
    [
        ("casme2", "raw", (480, 640, 3)),
        ("smic", "HS", (480, 640, 3)),
        ("smic", "SMIC-E-HS", (480, 640, 3)),
        ("smic", "NIR-cropped", (170, 140, 3)),
    ],
)
def test_every_kind_of_variant_can_be_written(tmp_path, corpus, variant, shape):
    made = write_corpus(corpus, tmp_path, subjects=1, clips=2, frames=6, variant=variant)
    layout = LAYOUTS[corpus]
    for clip, name in zip(made.clips, truth_clips(made.truth), strict=True):
        numbers = layout.numbers(clip, variant)
        truth = read_truth(made.truth, name)
        assert_array_equal(truth.numbers, numbers)
        path = made.root / layout.frame_path(clip, numbers[-1], variant)
        assert cv2.imread(str(path)).shape == shape
    assert made.frames == sum(len(layout.numbers(clip, variant)) for clip in made.clips)
