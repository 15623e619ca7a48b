"""The truth of synthetic clips: exact motion, kept small, and evaluated where it is asked for.

A frame's pixel belongs to a point of the neutral face. The neutral point x is seen in frame t at
``y = M(t) (x + a(t) E(x) + b(t) B(x))``, with E the expression at its apex, B a blink, a and b
their courses, and M the rigid motion of the head. E and B are sums of Gaussians, so a few
hundred numbers give the dense flow between any two frames exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mer_prep.checks import suggest
from mer_prep.errors import ManifestError
from mer_prep.synth.fields import GaussianField, invert_displacement

TRUTH_NAME = "mer-prep-truth.h5"

SCHEMA = 1


@dataclass(frozen=True)
class ClipTruth:
    """Everything that is known about a synthetic clip.

    Parameters
    ----------
    numbers : ndarray, shape (T,), int64
        Frame numbers of the frames that exist.
    landmarks : ndarray, shape (T, 68, 2), float32
        (x, y) in source px.
    expression, blink : GaussianField
        Displacement at full strength, in px of the neutral face.
    expression_course, blink_course : ndarray, shape (T,), float64
        Strength at each frame, in [0, 1].
    head_motion : ndarray, shape (T, 2, 3), float64
        Rigid motion from the neutral face to each frame, px.
    size : tuple of int
        Width and height of the frames in px.
    facts : mapping
        ``onset``, ``apex``, ``offset`` (frame numbers), ``emotion``, ``action_units``,
        ``amplitude`` (px at 144x144), ``aligned_scale`` (aligned px per source px), ``fps``,
        ``seed`` ...
    """

    numbers: np.ndarray
    landmarks: np.ndarray
    expression: GaussianField
    expression_course: np.ndarray
    blink: GaussianField
    blink_course: np.ndarray
    head_motion: np.ndarray
    size: tuple[int, int]
    facts: Mapping[str, Any]

    def position(self, number: int) -> int:
        """Return the position of a frame number.

        Raises
        ------
        ManifestError
            If the clip has no such frame.
        """
        found = np.flatnonzero(self.numbers == number)
        if not len(found):
            raise ManifestError(
                f"The synthetic clip has no frame {number}.",
                where=f"frames {self.numbers[0]} to {self.numbers[-1]}",
            )
        return int(found[0])

    def displacement(self, points: np.ndarray, number: int) -> np.ndarray:
        """Return the facial displacement (..., 2) in px of neutral points (..., 2) at a frame."""
        position = self.position(number)
        a, b = self.expression_course[position], self.blink_course[position]
        result = np.zeros(np.shape(points))
        if a:
            result += a * self.expression(points)
        if b:
            result += b * self.blink(points)
        return result

    def from_neutral(self, points: np.ndarray, number: int) -> np.ndarray:
        """Return where points (..., 2) of the neutral face are seen in a frame, px."""
        matrix = self.head_motion[self.position(number)]
        moved = np.asarray(points) + self.displacement(points, number)
        return moved @ matrix[:, :2].T + matrix[:, 2]

    def to_neutral(self, points: np.ndarray, number: int) -> np.ndarray:
        """Return the points of the neutral face seen at points (..., 2) of a frame, px."""
        matrix = self.head_motion[self.position(number)]
        still = (np.asarray(points) - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        return invert_displacement(lambda p: self.displacement(p, number), still)

    def move(self, points: np.ndarray, number_from: int, number_to: int) -> np.ndarray:
        """Return where what is at points (..., 2) of one frame is seen in another frame, px."""
        return self.from_neutral(self.to_neutral(points, number_from), number_to)

    def flow(self, number_from: int, number_to: int) -> np.ndarray:
        """Return the dense flow between two frames.

        Parameters
        ----------
        number_from, number_to : int
            Frame numbers.

        Returns
        -------
        ndarray, shape (2, H, W), float32
            Channels (u, v) in source px: pixel x of the first frame is at x + u in the second.
            Lids that close hide the eye behind them; there the flow is that of the skin model,
            which compresses instead.
        """
        width, height = self.size
        pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(float)
        moved = self.move(pixels, number_from, number_to)
        return np.moveaxis(moved - pixels, -1, 0).astype(np.float32)


def true_flow(truth: Path, clip: str, number_from: int, number_to: int) -> np.ndarray:
    """Return the true dense flow between two frames of a synthetic clip.

    Parameters
    ----------
    truth : Path
        Truth file, or the corpus folder it lies in.
    clip : str
        ``<subject>/<clip>``; a leading ``<corpus>/`` is allowed.
    number_from, number_to : int
        Frame numbers.

    Returns
    -------
    ndarray, shape (2, H, W), float32
        Channels (u, v) in source px: pixel x of the first frame is at x + u in the second.

    Raises
    ------
    ManifestError
        If there is no such file, clip or frame.
    """
    return read_truth(truth, clip).flow(number_from, number_to)


def truth_path(corpus_root: Path) -> Path:
    """Return the path of the truth file of a synthetic corpus folder."""
    return corpus_root / TRUTH_NAME


def truth_clips(truth: Path) -> list[str]:
    """Return the names ``<subject>/<clip>`` of the clips in a truth file, sorted."""
    with _open(truth) as file:
        return sorted(f"{subject}/{clip}" for subject in file for clip in file[subject])


def read_truth(truth: Path, clip: str) -> ClipTruth:
    """Read the truth of one clip; parameters and errors as in `true_flow`."""
    with _open(truth) as file:
        name = clip.removeprefix(f"{file.attrs['corpus']}/")
        if name not in file or "landmarks" not in file[name]:
            known = [f"{s}/{c}" for s in file for c in file[s]]
            raise ManifestError(
                f"The truth holds no clip {name!r}.{suggest(name, known)}", where=file.filename
            )
        group = file[name]
        facts = {
            key: value.item() if isinstance(value, np.generic) else value
            for key, value in group.attrs.items()
        }
        return ClipTruth(
            numbers=group["frame_numbers"][()],
            landmarks=group["landmarks"][()],
            expression=_read_field(group["expression"]),
            expression_course=group["expression_course"][()],
            blink=_read_field(group["blink"]),
            blink_course=group["blink_course"][()],
            head_motion=group["head_motion"][()],
            size=(int(facts["width"]), int(facts["height"])),
            facts=facts,
        )


def _open(truth: Path) -> h5py.File:
    path = truth_path(truth) if truth.is_dir() else truth
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ManifestError(
            f"The truth file cannot be opened: {error}.",
            where=path,
            hint="only corpora written by `mer-prep synth` have one",
        ) from None


_FIELD_AXES = (
    ("centres", "point xy", "px"),
    ("vectors", "point uv", "px"),
    (
        "sigmas",
        "point xy",
        "px",
    ),
)


def _read_field(group: h5py.Group) -> GaussianField:
    return GaussianField(*(group[name][()] for name, _, _ in _FIELD_AXES))


def write_truth(
    path: Path, clips: Sequence[tuple[str, ClipTruth]], *, attributes: Mapping[str, Any]
) -> None:
    """Write a truth file; the same clips always give the same bytes.

    Parameters
    ----------
    path : Path
        File to write.
    clips : sequence of (str, ClipTruth)
        ``<subject>/<clip>`` and its truth.
    attributes : mapping
        Root attributes; ``corpus`` must be among them.
    """
    with h5py.File(path, "w") as file:
        file.attrs["schema"] = SCHEMA
        file.attrs["synthetic"] = True
        file.attrs["model"] = "y = M(t) (x + a(t) E(x) + b(t) B(x)), x neutral, y frame t, px"
        for key, value in attributes.items():
            file.attrs[key] = value
        for name, truth in clips:
            group = file.create_group(name)
            for key, value in {
                **truth.facts,
                "width": truth.size[0],
                "height": truth.size[1],
            }.items():
                group.attrs[key] = value
            _put(group, "frame_numbers", truth.numbers, "frame", "frames")
            _put(group, "landmarks", truth.landmarks, "frame point xy", "px")
            _put(group, "expression_course", truth.expression_course, "frame", "unitless")
            _put(group, "blink_course", truth.blink_course, "frame", "unitless")
            _put(group, "head_motion", truth.head_motion, "frame row column", "px")
            for part in ("expression", "blink"):
                folder = group.create_group(part)
                for field, axes, units in _FIELD_AXES:
                    _put(folder, field, getattr(getattr(truth, part), field), axes, units)


def _put(group: h5py.Group, name: str, values: np.ndarray, axes: str, units: str) -> None:
    dataset = group.create_dataset(name, data=values, track_times=False)
    dataset.attrs["axes"] = axes
    dataset.attrs["units"] = units
