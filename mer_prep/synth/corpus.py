"""Writes synthetic corpora: frames, annotations and the truth, in the layouts of the real ones."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import joblib
import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.config import canonical_json
from mer_prep.errors import ConfigError
from mer_prep.manifest import SYNTHETIC_MARK
from mer_prep.synth.clips import Scene, render_frames, scene_truth
from mer_prep.synth.layouts import LAYOUTS, Layout, PlannedClip
from mer_prep.synth.plan import MAX_AMPLITUDE, ClipPlan, plan_corpus
from mer_prep.synth.portraits import load_portrait, portrait_names
from mer_prep.synth.truth import TRUTH_NAME, ClipTruth, write_truth

#: Raised whenever the same parameters give other frames, annotations or truth.
VERSION = 2

_RECORD = "record: "

JPEG_QUALITY = 95


@dataclass(frozen=True)
class SyntheticCorpus:
    """A synthetic corpus on disk.

    Parameters
    ----------
    corpus : str
        Name of the importer that reads it.
    root : Path
        Corpus folder, to be given to the importer.
    variant : str
        Variant of the layout.
    clips : tuple of PlannedClip
        The clips as annotated.
    annotations : tuple of Path
        Workbooks, if the corpus has any.
    truth : Path
        Truth file, see `mer_prep.synth.truth`.
    frames : int
        Number of frames.
    written : bool
        False if the folder already held this very corpus and nothing was done.
    """

    corpus: str
    root: Path
    variant: str
    clips: tuple[PlannedClip, ...]
    annotations: tuple[Path, ...]
    truth: Path
    frames: int
    written: bool


def write_corpus(
    corpus: str,
    out: Path,
    *,
    subjects: int = 3,
    clips: int = 4,
    seed: int = 0,
    variant: str | None = None,
    amplitude: tuple[float, float] = (0.7, 1.5),
    head_motion: float = 1.0,
    blinks: bool = False,
    noise: float | None = None,
    flicker: float = 0.0,
    frames: int | None = None,
    quirks: bool = True,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> SyntheticCorpus:
    """Write a synthetic corpus into ``out/<corpus folder>``.

    The corpus appears whole or not at all. The same parameters give the same frames, cells and
    truth, whatever `jobs`.

    Parameters
    ----------
    corpus : str
        Whose layout, a key of `layouts.LAYOUTS`.
    out : Path
        Folder to hold the corpus folder.
    subjects, clips : int
        Number of subjects, and of clips of each; at least 1.
    seed : int
        Seed, not negative.
    variant : str, optional
        Variant of the layout; its default if None.
    amplitude : tuple of float
        Range of the expressions' peak displacement in px at 144x144; [0, 4]. Micro-expressions
        have 0.5 to 1.5.
    head_motion : float
        Scale of the rigid head motion, [0, 4]: 1 for up to about 2 px at 144x144 and less than
        1 degree, 0 for none.
    blinks : bool
        Whether the subject blinks once in each clip.
    noise : float, optional
        Sigma of the sensor noise in grey levels, [0, 50]; each subject's own (0.8 to 1.6) if None.
    flicker : float
        Relative amplitude of the light's flicker, [0, 0.5].
    frames : int, optional
        Most frames from onset to offset, at least 6; real ones have 40 to 80 at 200 fps.
    quirks : bool
        Whether to write the irregularities that importers must cope with.
    jobs : int
        Number of processes; -1 takes one per core.
    progress : callable, optional
        Called with (clips done, clips in all).

    Returns
    -------
    SyntheticCorpus
        Where everything is.

    Raises
    ------
    ConfigError
        For values out of range, and if the corpus folder holds anything but a synthetic corpus.
    """
    layout = LAYOUTS[check_option("corpus", corpus, LAYOUTS)]
    variant = check_option("variant", variant or layout.default_variant, layout.variants)
    if jobs != -1:
        check_range("jobs", jobs, low=1)
    low, high = _check_ranges(amplitude, head_motion, noise, flicker, subjects, clips, seed, frames)
    parameters: dict[str, Any] = {
        "corpus": corpus,
        "version": VERSION,
        "variant": variant,
        "subjects": subjects,
        "clips": clips,
        "seed": seed,
        "amplitude": [low, high],
        "head_motion": float(head_motion),
        "blinks": bool(blinks),
        "noise": None if noise is None else float(noise),
        "flicker": float(flicker),
        "frames": frames,
        "quirks": bool(quirks),
    }
    plans = plan_corpus(
        layout,
        variant=variant,
        subjects=subjects,
        clips=clips,
        seed=seed,
        amplitude=(low, high),
        frames=frames,
        quirks=quirks,
    )
    root = out / layout.folder
    record = _existing(root)
    if written := record is None or record["parameters"] != parameters:
        record = _write_whole(root, layout, plans, parameters, jobs=jobs, progress=progress)
    assert record is not None
    return SyntheticCorpus(
        corpus=corpus,
        root=root,
        variant=variant,
        clips=tuple(plan.annotated for plan in plans),
        annotations=tuple(root / name for name in record["annotations"]),
        truth=root / TRUTH_NAME,
        frames=sum(len(layout.numbers(plan.annotated, variant)) for plan in plans),
        written=written,
    )


def scene_of(plan: ClipPlan, layout: Layout, parameters: Mapping[str, Any]) -> Scene:
    """Return the scene of a planned clip.

    Parameters
    ----------
    plan : ClipPlan
        The clip.
    layout : Layout
        Its corpus's layout.
    parameters : mapping
        ``variant``, ``head_motion``, ``blinks``, ``noise`` and ``flicker`` of `write_corpus`.
    """
    variant = parameters["variant"]
    return Scene(
        identity=plan.identity,
        size=layout.size(variant),
        grey=layout.grey,
        numbers=layout.numbers(plan.annotated, variant),
        onset=plan.annotated.onset,
        apex=plan.apex,
        offset=plan.annotated.offset,
        fps=layout.frame_rate(variant),
        emotion=plan.emotion,
        action_units=plan.action_units,
        strengths=plan.strengths,
        amplitude=plan.amplitude,
        head_motion=parameters["head_motion"],
        blinks=parameters["blinks"],
        noise=parameters["noise"],
        flicker=parameters["flicker"],
        seed=plan.seed,
    )


def _check_ranges(
    amplitude: tuple[float, float],
    head_motion: float,
    noise: float | None,
    flicker: float,
    subjects: int,
    clips: int,
    seed: int,
    frames: int | None,
) -> tuple[float, float]:
    low = float(check_range("amplitude", amplitude[0], low=0, high=MAX_AMPLITUDE))
    high = float(check_range("amplitude", amplitude[1], low=low, high=MAX_AMPLITUDE))
    check_range("head_motion", head_motion, low=0, high=4)
    check_range("flicker", flicker, low=0, high=0.5)
    check_range("subjects", subjects, low=1)
    check_range("clips", clips, low=1)
    check_range("seed", seed, low=0)
    if noise is not None:
        check_range("noise", noise, low=0, high=50)
    if frames is not None:
        check_range("frames", frames, low=6)
    return low, high


def _existing(root: Path) -> dict[str, Any] | None:
    """Return the record of the synthetic corpus at `root`, or None if there is nothing.

    Raises
    ------
    ConfigError
        If something else is there: it is never overwritten.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    try:
        text = (root / SYNTHETIC_MARK).read_text(encoding="utf-8")
        line = next(line for line in text.splitlines() if line.startswith(_RECORD))
        record = json.loads(line.removeprefix(_RECORD))
        return {
            "parameters": dict(record["parameters"]),
            "annotations": list(record["annotations"]),
        }
    except (OSError, StopIteration, ValueError, KeyError, TypeError):
        raise ConfigError(
            "The folder holds something that is not a synthetic corpus.",
            where=root,
            why="frames written into a real corpus would be mistaken for real ones",
            hint="choose another output folder",
        ) from None


def _write_whole(
    root: Path,
    layout: Layout,
    plans: list[ClipPlan],
    parameters: dict[str, Any],
    *,
    jobs: int,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    """Write the corpus beside `root`, and put it in its place when it is complete."""
    partial = root.with_name(f".{root.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        # First, so that a part left behind by a crash is known for what it is.
        partial.mkdir(parents=True)
        _write_marker(partial, parameters, [])
        truths = _render(partial, layout, plans, parameters, jobs=jobs, progress=progress)
        planned = [plan.annotated for plan in plans]
        quirks, variant = parameters["quirks"], parameters["variant"]
        written = layout.write_annotations(partial, planned, quirks=quirks, variant=variant)
        layout.write_extras(partial, planned, variant, quirks=quirks)
        names = truth_names(layout, planned)
        write_truth(
            partial / TRUTH_NAME,
            list(zip(names, truths, strict=True)),
            attributes={"corpus": layout.corpus, "parameters": canonical_json(parameters)},
        )
        annotations = [path.relative_to(partial).as_posix() for path in written]
        _write_marker(partial, parameters, annotations)
        if root.exists():
            shutil.rmtree(root)
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {"parameters": parameters, "annotations": annotations}


def truth_names(layout: Layout, clips: Sequence[PlannedClip]) -> list[str]:
    """Return the names of clips in the truth file: those of their ids, without the corpus."""
    plain = [f"{layout.subject_name(clip.subject)}/{clip.clip}" for clip in clips]
    counts = Counter(plain)
    return [
        name if counts[name] == 1 else f"{name}@{clip.onset}"
        for name, clip in zip(plain, clips, strict=True)
    ]


def _render(
    root: Path,
    layout: Layout,
    plans: list[ClipPlan],
    parameters: dict[str, Any],
    *,
    jobs: int,
    progress: Callable[[int, int], None] | None,
) -> list[ClipTruth]:
    # Processes that served before may stand in another folder.
    place = root.absolute()
    tasks = (joblib.delayed(_write_clip)(place, layout.corpus, plan, parameters) for plan in plans)
    truths = []
    for truth in joblib.Parallel(n_jobs=jobs, return_as="generator")(tasks):
        truths.append(truth)
        if progress:
            progress(len(truths), len(plans))
    return truths


def _write_clip(root: Path, corpus: str, plan: ClipPlan, parameters: dict[str, Any]) -> ClipTruth:
    """Render and write one clip; runs in a process of its own, with one thread."""
    layout, variant = LAYOUTS[corpus], parameters["variant"]
    scene = scene_of(plan, layout, parameters)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        truth = scene_truth(scene)
        for number, image in zip(scene.numbers, render_frames(scene, truth), strict=True):
            path = root / layout.frame_path(plan.annotated, number, variant)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_frame(image, path.suffix))
    finally:
        cv2.setNumThreads(threads)
    return truth


def encode_frame(image: np.ndarray, suffix: str) -> bytes:
    """Return an image, (H, W) or (H, W, 3) RGB uint8, as a JPEG of quality 95 or a BMP file."""
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix == ".jpg" else []
    return cv2.imencode(suffix, image, options)[1].tobytes()


def _write_marker(root: Path, parameters: dict[str, Any], annotations: list[str]) -> None:
    credits = "\n".join(f"  {load_portrait(name).credit}" for name in portrait_names())
    record = canonical_json({"parameters": parameters, "annotations": annotations})
    text = f"""\
SYNTHETIC: the frames in this folder are computed. They show no recorded micro-expression.

They were made by `mer-prep synth` in the layout of a licensed corpus, to try tools and to measure
their accuracy. Results on them say nothing about real faces and must not be published as such.

How: two portraits in the public domain are given other proportions, skin and light (the
subjects), and moved by smooth displacements modelled on action units, by a slight rigid head
motion and, if asked for, blinks; then come noise and compression. {TRUTH_NAME} holds the exact
motion. Annotations are invented in the form of the real ones.

Portraits:
{credits}

{_RECORD}{record}
"""
    (root / SYNTHETIC_MARK).write_text(text, encoding="utf-8")
