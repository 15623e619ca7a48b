"""Stage ``dynamic-image``: a clip as one picture, by rank pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, overload

import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.errors import ConfigError, ManifestError, MotionError
from mer_prep.manifest import Clip
from mer_prep.ops.images import to_grey
from mer_prep.ops.rank_pooling import METHODS, approximate_weights, exact_weights, pool
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.base import Arrays, Field, Inputs, Stage, StageOutput, StageStream
from mer_prep.stages.key_frames import (
    APEX_POLICIES,
    apex_index,
    key_frame_stages,
    onset_index,
)

#: What may be pooled, with the names of its channels and its units.
INPUTS = {
    "rgb": ("red green blue", "grey levels"),
    "grey": ("grey", "grey levels"),
    "flow": ("u v", "px"),
}
SPANS = ("onset-offset", "onset-apex", "all")

#: Pairs of the stage ``flow`` that follow one another in time.
ORDERED_PAIRS = ("consecutive", "onset-to-all")


@dataclass(frozen=True)
class DynamicImageParams:
    """Parameters of the stage ``dynamic-image``.

    Parameters
    ----------
    method : {'approximate', 'exact'}
        Approximate rank pooling in closed form, or the ranking support vector machine that it
        approximates (see `mer_prep.ops.rank_pooling` for both definitions).
    input : {'rgb', 'grey', 'flow'}
        What is pooled: aligned frames, their grey values, or the flow, whose pairs must then be
        `consecutive` or `onset-to-all`.
    span : {'onset-offset', 'onset-apex', 'all'}
        Which frames: from onset to offset, from onset to apex, or all that are seen.
    smoothing : bool
        Whether the time-varying means of the frames are ranked, as published, rather than the
        frames.
    cost : float
        What a pair costs that exact rank pooling does not part, above 0 and at most 1e6, beyond
        which its equations are too ill-conditioned to solve.
    apex : {'annotated-or-midpoint', 'annotated-or-spotted', 'annotated', 'spotted', 'midpoint'}
        Which frame is the apex, for `span = onset-apex`.
    """

    method: str = "approximate"
    input: str = "rgb"
    span: str = "onset-offset"
    smoothing: bool = True
    cost: float = 1.0
    apex: str = "annotated-or-midpoint"

    def __post_init__(self) -> None:
        check_option("dynamic-image.method", self.method, METHODS)
        check_option("dynamic-image.input", self.input, INPUTS)
        check_option("dynamic-image.span", self.span, SPANS)
        check_range("dynamic-image.cost", self.cost, low=0, high=1e6, open_low=True)
        check_option("dynamic-image.apex", self.apex, APEX_POLICIES)


class DynamicImage(Stage):
    """The direction in which a clip changes, as a picture; see `mer_prep.ops.rank_pooling`."""

    name = "dynamic-image"
    version = 1
    requires: tuple[str, ...] = ("align",)
    key_frames = ("onset", "apex", "offset")
    fields = (
        Field(
            "dynamic_image",
            "float32",
            "y x channel",
            "grey levels",
            "red green blue",
            note="positive where values rise from first to last frame; not scaled to 8 bits",
        ),
        Field(
            "weights",
            "float64",
            "frame",
            "unitless",
            note="the dynamic image is the sum of the frames so weighted; they sum to zero",
        ),
        Field(
            "indices",
            "int32",
            "frame",
            "frames",
            note="zero-based indices, into the frames of the stage 'align', of the frames pooled "
            "(of a flow's second frames)",
        ),
    )
    Params: ClassVar[type] = DynamicImageParams

    def __init__(self, params: DynamicImageParams | None = None) -> None:
        super().__init__(params)
        channels, units = INPUTS[self.params.input]
        if self.params.input == "flow":
            self.requires = ("align", "flow")
        elif self.params.input == "grey":
            self.libraries = ("opencv",)
        if self.params.span == "onset-apex":
            self.requires = (*self.requires, *key_frame_stages(self.params.apex))
        if self.params.method == "exact":
            units = f"1 / {units}"
            self.libraries = (*self.libraries, "scipy")
        self.fields = (
            replace(self.fields[0], units=units, channels=channels),
            *self.fields[1:],
        )

    def check_inputs(self, stages: Mapping[str, Stage]) -> None:
        """Raise `ConfigError` if the flow's pairs do not follow one another in time."""
        if self.params.input == "flow":
            pairs = stages["flow"].params.pairs
            if pairs not in ORDERED_PAIRS:
                raise ConfigError(
                    f"Flow of pairs '{pairs}' has no order in time to be ranked by.",
                    where="dynamic-image.input=flow",
                    hint="add --set flow.pairs=consecutive or --set flow.pairs=onset-to-all",
                )

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        """Return the dynamic image, and how it is made of which frames.

        Raises
        ------
        MotionError
            If there are fewer than two frames, or flows, to put in order.
        ManifestError
            If the apex is needed and missing, or lies before the onset or outside the frames.
        """
        return self.stream(clip, frames, inputs).whole()

    def stream(self, clip: Clip, frames: ClipFrames, inputs: Inputs) -> StageStream:
        """Return as `run` does; frames are read one at a time, as they are pooled."""
        output = self._output(clip, frames, inputs)
        return StageStream({}, lambda: output)

    def _output(self, clip: Clip, frames: ClipFrames, inputs: Inputs) -> StageOutput:
        count = len(inputs["align"]["frames"])
        if count < 2:
            raise MotionError(
                f"Dynamic-image needs 2 frames, and the clip has {count}.",
                where=clip.clip_id,
                hint="check onset and offset, or see the whole recording with --set "
                "source.frames=all and --set dynamic-image.span=all",
            )
        first, last, facts = self._span(clip, frames, count, inputs.get("apex"))
        pooled = _Pooled(self.params.input, inputs, first, last)
        warnings: tuple[str, ...] = ()
        indices = pooled.indices
        if first == last:
            indices = np.array([first], np.int32)
            weights, image = np.zeros(1), np.zeros(pooled.shape, np.float32)
            warnings = (f"The apex is the onset frame {frames.numbers[first]}; nothing is pooled.",)
        elif len(pooled) < 2:
            raise MotionError(
                f"Dynamic-image needs 2 flows, and there is {len(pooled)}.",
                where=clip.clip_id,
                hint="pool frames with --set dynamic-image.input=rgb, or a longer span",
            )
        else:
            weights = self._weights(pooled, clip.clip_id)
            image = pool(pooled, weights)
            if not image.any():
                warnings = ("There is no change at all between the frames pooled.",)
        return StageOutput(
            arrays={"dynamic_image": image, "weights": weights, "indices": indices},
            facts={
                "method": self.params.method,
                "first_number": int(frames.numbers[first]),
                "last_number": int(frames.numbers[last]),
                **facts,
            },
            warnings=warnings,
        )

    def _weights(self, pooled: _Pooled, where: str) -> np.ndarray:
        if self.params.method == "approximate":
            return approximate_weights(len(pooled), smoothing=self.params.smoothing)
        try:
            return exact_weights(pooled, smoothing=self.params.smoothing, cost=self.params.cost)
        except MotionError as error:
            raise MotionError(error.what, where=where, hint=error.hint) from None

    def _span(
        self, clip: Clip, frames: ClipFrames, count: int, spotted: Mapping[str, Any] | None
    ) -> tuple[int, int, dict[str, str | int | float | bool]]:
        """Return the first and the last index pooled, and facts about them."""
        if self.params.span == "all":
            return 0, count - 1, {}
        if self.params.span == "onset-offset":
            start, stop = clip.expression_span()
            return start - frames.start, stop - 1 - frames.start, {}
        onset = onset_index(clip, frames)
        apex, source = apex_index(
            clip, frames, policy=self.params.apex, spotted=spotted, stage=self.name
        )
        if apex < onset:
            raise ManifestError(
                f"The apex {frames.numbers[apex]} of clip {clip.clip_id} lies before its onset "
                f"{frames.numbers[onset]}.",
                where=clip.root,
                hint="check the annotation with `mer-prep validate`",
            )
        return onset, apex, {"apex_source": source, "apex_number": int(frames.numbers[apex])}


class _Pooled(Sequence[np.ndarray]):
    """What is pooled, one (H, W, C) array at a time, in order of time."""

    def __init__(self, kind: str, inputs: Inputs, first: int, last: int) -> None:
        self._kind = kind
        frames = inputs["align"]["frames"]
        self._values = inputs["flow"]["flow"] if kind == "flow" else frames
        ends = np.repeat(np.arange(len(frames))[:, None], 2, axis=1)
        if kind == "flow":
            ends = np.asarray(inputs["flow"]["pairs"])
        self._rows = np.flatnonzero(((ends >= first) & (ends <= last)).all(axis=1))
        self.indices = ends[self._rows, 1].astype(np.int32)
        self.shape = (*frames.shape[1:3], len(INPUTS[kind][0].split()))

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        value = np.asarray(self._values[int(self._rows[index])])
        if self._kind == "grey":
            return to_grey(value)[..., None]
        return value.transpose(1, 2, 0) if self._kind == "flow" else value
