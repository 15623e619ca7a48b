"""The card of a clip: its panels, its curve, and what there is to say of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from mer_prep.errors import MerPrepError, SourceError
from mer_prep.manifest import Clip
from mer_prep.ops.apex import midpoint
from mer_prep.ops.expression_score import difference_score
from mer_prep.ops.strain import strain_magnitude, strain_tensor
from mer_prep.reports import qc_pictures as pictures
from mer_prep.reports.charts import Line, Marker, line_chart
from mer_prep.reports.markup import Html, counted, number, render
from mer_prep.reports.qc_clips import FIGURES, STATES, ClipRecord, figure
from mer_prep.sources.frames import ClipFrames
from mer_prep.store.blocks import StoredArray
from mer_prep.store.shard import open_clip

#: Frames of a clip beyond which no curve is computed for the page alone.
MOST_FRAMES = 600


@dataclass(frozen=True)
class CardWork:
    """What a worker needs to draw a card.

    Parameters
    ----------
    record : ClipRecord
        The clip.
    faces : bool
        Whether frames are shown.
    """

    record: ClipRecord
    faces: bool


@dataclass(frozen=True)
class Card:
    """A card.

    Parameters
    ----------
    html : Html
        The card.
    problem : str
        What could not be drawn, and why; empty if all of it was.
    """

    html: Html
    problem: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture of a card with its title, its caption and the anchor of how to read it."""

    kind: str
    title: str
    caption: str
    body: Html


@dataclass(frozen=True)
class KeyFrame:
    """A frame that is shown: what it is, its index and number, and where it comes from."""

    name: str
    index: int
    number: int
    source: str


def draw_card(work: CardWork) -> Card:
    """Draw the card of a clip; what cannot be drawn is said in its place."""
    cv2.setNumThreads(1)
    record = work.record
    panels: list[Panel] = []
    problems: list[str] = []
    try:
        with ExitStack() as files:
            shards = _Shards(record, files)
            for draw in (_source, _aligned, _dynamic, _flow, _strain, _curve):
                try:
                    panels += draw(record, shards, work.faces)
                except MerPrepError as error:
                    problems.append(f"{draw.__name__.strip('_')}: {error.what}")
    except MerPrepError as error:
        problems.append(str(error).replace("\n", " "))
    html = render(
        "qc_card.html",
        record=record,
        clip=record.clip,
        panels=panels,
        problems=problems,
        state=STATES[record.state],
        facts=list(_facts(record)),
        figures={name: figure(record, name) for name in FIGURES},
        search=_search_text(record),
    )
    return Card(html, f"{record.clip.clip_id}: {'; '.join(problems)}" if problems else "")


class _Shards:
    """The results of a clip, opened when they are first looked at."""

    def __init__(self, record: ClipRecord, files: ExitStack) -> None:
        self._record = record
        self._files = files
        self._open: dict[str, Mapping[str, StoredArray]] = {}

    def get(self, stage: str) -> Mapping[str, StoredArray] | None:
        """Return the arrays of a stage; None if it has no result."""
        path = self._record.files.get(stage)
        if path is None:
            return None
        if stage not in self._open:
            opened = open_clip(path, self._record.clip.clip_id)
            self._open[stage] = self._files.enter_context(opened)[0]
        return self._open[stage]

    def numbers(self) -> list[int]:
        """Return the numbers of the frames that the stages saw; of the expression if none did."""
        for stage in ("align", "landmarks"):
            arrays = self.get(stage)
            if arrays is not None:
                return [int(one) for one in arrays["frame_numbers"].whole()]
        first, stop = self._record.clip.expression_span()
        return list(self._record.clip.frame_numbers[first:stop])


def key_frames(record: ClipRecord, numbers: list[int]) -> list[KeyFrame]:
    """Return onset, apex and offset as they are shown: annotated, else found, else the ends.

    An apex that is not annotated is the one that the flow was computed to, so that all panels show
    the same frames; without it the spotted one.

    Parameters
    ----------
    record : ClipRecord
        The clip.
    numbers : list of int
        Numbers of the frames that may be shown.
    """
    clip = record.clip
    choices: dict[str, list[tuple[Any, Any]]] = {
        "onset": [(clip.onset, "annotated"), (numbers[0], "first frame")],
        "apex": [
            (clip.apex, clip.apex_source),
            (record.fact("flow", "apex_number"), record.fact("flow", "apex_source")),
            (record.fact("apex", "spotted_apex"), "spotted"),
            (numbers[midpoint(0, len(numbers))], "midpoint"),
        ],
        "offset": [(clip.offset, "annotated"), (numbers[-1], "last frame")],
    }
    shown = []
    for name, of_name in choices.items():
        chosen, source = next((one, where) for one, where in of_name if one in numbers)
        shown.append(KeyFrame(name, numbers.index(chosen), int(chosen), str(source)))
    return shown


def _listed(frames: list[KeyFrame]) -> str:
    return ", ".join(f"{one.name} {one.number} ({one.source})" for one in frames)


def _source(record: ClipRecord, shards: _Shards, faces: bool) -> Iterator[Panel]:
    numbers = shards.numbers()
    shown = key_frames(record, numbers)
    found = shards.get("landmarks")
    points = None if found is None else [found["landmarks"][one.index] for one in shown]
    detected = None if found is None else [bool(found["detected"][one.index]) for one in shown]
    tiles, marks = [], []
    if faces:
        start = record.clip.position(numbers[0])
        frames = ClipFrames(record.clip, start, start + len(numbers))
        try:
            sources = _decoded(frames, [one.index for one in shown])
        except SourceError as error:
            raise MerPrepError(f"{error.what} The source frames are not shown.") from None
        for index, frame in enumerate(sources):
            tiles.append(pictures.source_tile(frame, None if points is None else points[index]))
    if points is not None:
        marks = [_zoomed(one) for one in points]
    if not tiles and not marks:
        return
    caption = _listed(shown)
    if detected is not None and not all(detected):
        caption += "; landmarks are interpolated where no face was detected: "
        caption += ", ".join(
            one.name for one, seen in zip(shown, detected, strict=True) if not seen
        )
    yield Panel(
        "source", "Source frames", caption, _strip(tiles, marks, f"Source frames: {caption}")
    )


def _decoded(frames: ClipFrames, indices: list[int]) -> list[np.ndarray]:
    return [np.asarray(frames[index]) for index in indices]


def _zoomed(landmarks: np.ndarray) -> np.ndarray:
    """Return landmarks in px of the tile that `source_tile` cuts out by them, whatever is in it."""
    blank = np.zeros((8, 8, 3), np.uint8)
    return pictures.zoom_to_face(blank, landmarks, side=pictures.TILE)[1]


def _aligned(record: ClipRecord, shards: _Shards, faces: bool) -> Iterator[Panel]:
    aligned = shards.get("align")
    if aligned is None:
        return
    shown = key_frames(record, shards.numbers())
    size = aligned["frames"].shape[1]
    tiles = [pictures.aligned_tile(aligned["frames"][one.index]) for one in shown] if faces else []
    marks = [
        pictures.aligned_points(aligned["landmarks"][one.index], size, side=pictures.TILE)
        for one in shown
    ]
    caption = f"{size}×{size} px; jitter {_px(record.fact('align', 'jitter_px'))}, "
    caption += f"head motion {_px(record.fact('align', 'head_motion_px'))}"
    yield Panel("aligned", "Aligned frames", caption, _strip(tiles, marks, _alt("Aligned", shown)))


def _alt(what: str, shown: list[KeyFrame]) -> str:
    return f"{what} frames: {_listed(shown)}"


def _px(value: Any) -> str:
    return "unknown" if value is None else f"{float(value):.2f} px"


def _strip(tiles: list[np.ndarray], marks: list[np.ndarray], alt: str) -> Html:
    count = max(len(tiles), len(marks))
    size = (pictures.TILE * count, pictures.TILE)
    body = pictures.image(np.concatenate(tiles, axis=1), alt) if tiles else Html()
    if marks:
        overlay = pictures.landmarks_overlay(
            marks, size, alt="" if tiles else f"Landmarks alone. {alt}"
        )
        body = Html(body + overlay)
    return Html(f'<div class="strip{"" if tiles else " faceless"}">{body}</div>')


def _shown_pair(record: ClipRecord, shards: _Shards, flow: Mapping[str, StoredArray]) -> int:
    """Return the row of the flow that is shown: onset to apex if it is there, else the first."""
    frames = {one.name: one.index for one in key_frames(record, shards.numbers())}
    pairs = flow["pairs"].whole()
    rows = np.flatnonzero((pairs == (frames.get("onset"), frames.get("apex"))).all(axis=1))
    return int(rows[0]) if rows.size else 0


def _flow(record: ClipRecord, shards: _Shards, faces: bool) -> Iterator[Panel]:
    found = shards.get("flow")
    if found is None:
        return
    row = _shown_pair(record, shards, found)
    flow = np.asarray(found["flow"][row], np.float32)
    first, second = (int(one) for one in found["pair_numbers"][row])
    first_index = int(found["pairs"][row][0])
    magnitude = np.hypot(*flow)
    max_px = pictures.full_scale(magnitude, least=pictures.LEAST_FLOW)
    which = f"frame {first} to {second}"
    if len(found["pairs"]) > 1:
        which += f" (pair {row + 1} of {len(found['pairs'])})"
    caption = (
        f"{which}; rim {max_px:.2f} px, mean {magnitude.mean():.3f} px, "
        f"largest {magnitude.max():.2f} px"
    )
    colours = pictures.image(
        pictures.flow_picture(flow, max_px=max_px), f"Flow in colours, {caption}"
    )
    legend = Html(
        f'<svg class="wheel" viewBox="0 0 96 96" role="img" aria-label="Legend: hue is direction, '
        f'the rim is {max_px:.2f} px"><use href="#flow-wheel"/></svg>'
        f'<span class="scale">rim {max_px:.2f} px</span>'
    )
    yield Panel("flow", "Flow", caption, Html(f'<div class="with-legend">{colours}{legend}</div>'))
    aligned = shards.get("align")
    face = aligned["frames"][first_index] if faces and aligned is not None else None
    drawn, gain = pictures.arrow_picture(flow, face, max_px=max_px)
    caption = f"{which}; arrows {gain:.3g} times as long as the motion"
    body = pictures.image(drawn, f"Flow as arrows, {caption}", quality=60)
    if face is None and aligned is not None:
        marks = pictures.aligned_points(
            aligned["landmarks"][first_index], flow.shape[2], side=pictures.ARROWS
        )
        size = (pictures.ARROWS, pictures.ARROWS)
        body = Html(body + pictures.landmarks_overlay([marks], size))
    yield Panel("arrows", "Flow as arrows", caption, Html(f'<div class="strip">{body}</div>'))


def _strain(record: ClipRecord, shards: _Shards, faces: bool) -> Iterator[Panel]:
    flow = shards.get("flow")
    if flow is None:
        return
    row = _shown_pair(record, shards, flow)
    stored = shards.get("strain")
    if stored is None:
        strain = strain_magnitude(strain_tensor(np.asarray(flow["flow"][row], np.float32)))
        origin = "computed for this page from the flow"
    else:
        strain = np.asarray(stored["strain"][row])
        strain = strain_magnitude(strain) if strain.ndim == 3 else strain
        origin = "as stored"
    largest = pictures.full_scale(strain, least=pictures.LEAST_STRAIN, percentile=99.5)
    caption = f"0 to {largest:.3f}, mean {strain.mean():.4f}, unitless; {origin}"
    body = pictures.image(
        pictures.strain_picture(strain, largest=largest), f"Optical strain, {caption}"
    )
    legend = Html(
        f'<svg class="ramp" viewBox="0 0 256 10" preserveAspectRatio="none" role="img" '
        f'aria-label="Legend: 0 to {largest:.3f}"><use href="#strain-ramp"/></svg>'
        f'<span class="scale">0 – {largest:.3f}</span>'
    )
    yield Panel("strain", "Strain", caption, Html(f'<div class="with-legend">{body}{legend}</div>'))


def _dynamic(record: ClipRecord, shards: _Shards, faces: bool) -> Iterator[Panel]:
    found = shards.get("dynamic-image")
    if found is None or not faces:
        return
    picture, largest = pictures.dynamic_picture(found["dynamic_image"].whole())
    caption = f"{len(found['indices'])} frames; black −{largest:.3g}, grey 0, white +{largest:.3g}"
    yield Panel(
        "dynamic", "Dynamic image", caption, pictures.image(picture, f"Dynamic image, {caption}")
    )


def _curve(record: ClipRecord, shards: _Shards, faces: bool) -> Iterator[Panel]:
    numbers = shards.numbers()
    spotted, aligned = shards.get("apex"), shards.get("align")
    if spotted is not None:
        score = spotted["score"].whole()
        found = {
            name: int(one)
            for name, one in zip(
                ("onset", "apex", "offset"), spotted["key_frame_numbers"].whole(), strict=True
            )
        }
        origin = f"stage apex, confidence {record.fact('apex', 'confidence'):.2f}"
    elif aligned is not None and 2 < len(numbers) <= MOST_FRAMES:
        reference = next(one.index for one in key_frames(record, numbers) if one.name == "onset")
        score = difference_score(
            aligned["frames"].whole(), aligned["landmarks"].whole(), reference=reference
        )
        found = {}
        origin = "grey-value differences to both ends, computed for this page"
    else:
        return
    annotated = {
        name: getattr(record.clip, name)
        for name in ("onset", "apex", "offset")
        if getattr(record.clip, name) in numbers
    }
    markers = [
        Marker(f"{name} {at}", at, style=1 if name == "apex" else 5)
        for name, at in annotated.items()
    ]
    if "apex" in found:
        markers.append(Marker(f"spotted apex {found['apex']}", found["apex"], style=2))
    caption = origin
    error = record.fact("apex", "apex_error")
    if error is not None:
        caption += f"; spotted apex {counted(abs(error), 'frame')} " + (
            "from the annotated one" if error == 0 else "late" if error > 0 else "early"
        )
    chart = line_chart(
        [Line("score", numbers, [float(one) for one in score])],
        title=f"Strength of the expression in frames {numbers[0]} to {numbers[-1]}; {caption}",
        x_label="frame number",
        y_label="score",
        markers=markers,
    )
    yield Panel("curve", "Apex score", caption, chart)


def _facts(record: ClipRecord) -> Iterator[tuple[str, str]]:
    clip = record.clip
    yield "frames", str(len(clip.frame_numbers))
    if clip.fps:
        yield "fps", number(clip.fps)
    for name in ("onset", "apex", "offset"):
        value = getattr(clip, name)
        source = f" ({clip.apex_source})" if name == "apex" and clip.apex_source else ""
        yield name, "none" if value is None else f"{value}{source}"
    if clip.onset is not None and clip.offset is not None and clip.fps:
        yield "lasts", f"{(clip.offset - clip.onset + 1) / clip.fps * 1000:.0f} ms"
    if clip.action_units or clip.action_units_raw:
        yield "AUs", clip.action_units_raw or "+".join(str(one) for one in clip.action_units)
    if clip.expression_type != "micro":
        yield "expression", clip.expression_type
    for name, text in (("lost", "lost"), ("frames_without_face", "without a face")):
        value = record.fact("landmarks", name)
        if value:
            yield text, f"{value}×" if name == "lost" else counted(value, "frame")
    failures = record.fact("align", "registration_failures")
    if failures:
        yield "not registered", counted(failures, "frame")


def _search_text(record: ClipRecord) -> str:
    clip: Clip = record.clip
    words = [clip.clip_id, clip.emotion or "unlabelled", clip.emotion_raw or ""]
    words += [clip.action_units_raw or "", *(f"au{one}" for one in clip.action_units)]
    words += [text for _, text in record.warnings]
    if record.failure is not None:
        words += [record.failure.error, record.failure.message]
    return " ".join(words).casefold()
