"""What a stage is: a named, versioned step from source frames and earlier results to arrays."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from mer_prep.checks import check_option, suggest
from mer_prep.config import canonical_json, make_params
from mer_prep.docstrings import parameter_texts
from mer_prep.errors import ConfigError
from mer_prep.manifest import Clip
from mer_prep.sources.frames import ClipFrames
from mer_prep.store.blocks import Blocks, StoredArray

Arrays = Mapping[str, np.ndarray]

#: Arrays of a stage before: as a whole, or in their file and read as they are indexed.
Inputs = Mapping[str, Mapping[str, np.ndarray | StoredArray]]


@dataclass(frozen=True, slots=True)
class Field:
    """One dataset a stage gives per clip.

    Parameters
    ----------
    name : str
        Dataset name within the clip's group.
    dtype : str
        NumPy dtype name.
    axes : str
        Names of the axes, blank-separated; ``frame pair y x channel point`` and the like.
    units : str
        ``px``, ``frames``, ``unitless`` ...
    channels : str
        Names along the channel axis, blank-separated; empty if there is none.
    note : str
        Anything a reader of the file must know, e.g. a sign convention.
    """

    name: str
    dtype: str
    axes: str
    units: str
    channels: str = ""
    note: str = ""


@dataclass(frozen=True)
class StageOutput:
    """What a stage gives for one clip: its arrays, and facts kept as attributes.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        One array for every `Field` of the stage.
    facts : mapping
        Scalars and texts kept as attributes of the clip's group, e.g. ``jitter_px``.
    warnings : tuple of str
        Sentences for the log and the quality report.
    """

    arrays: Arrays
    facts: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageStream:
    """What a stage gives for one clip, its long arrays block by block.

    Parameters
    ----------
    blocks : mapping of str to Blocks
        The arrays that are never held as a whole. They are taken one after the other, each to its
        end.
    finish : callable
        Called once the blocks have been taken; returns the other arrays, facts and warnings.
    """

    blocks: Mapping[str, Blocks]
    finish: Callable[[], StageOutput]

    def whole(self) -> StageOutput:
        """Return all of it at once, for clips that are known to be short."""
        arrays = {name: blocks.whole() for name, blocks in self.blocks.items()}
        rest = self.finish()
        return dataclasses.replace(rest, arrays={**arrays, **rest.arrays})


@dataclass(frozen=True)
class SourceParams:
    """Which frames the stages see.

    Parameters
    ----------
    frames : {'expression', 'all'}
        From onset to offset, or the whole recording.
    """

    frames: str = "expression"

    def __post_init__(self) -> None:
        check_option("source.frames", self.frames, ("expression", "all"))

    def span(self, clip: Clip) -> tuple[int, int]:
        """Return (first position, last position + 1) of the frames seen."""
        return (0, len(clip.frame_numbers)) if self.frames == "all" else clip.expression_span()


class Stage:
    """Base of the stages.

    A stage is built once per process from its parameters and then run clip by clip; whatever is
    expensive to load (a landmark model) is loaded on the first call of `run`. An instance whose
    parameters change what it requires, the libraries it uses or the fields it gives sets its own;
    those of the class are for the defaults.

    Attributes
    ----------
    name : str
        Name on the command line and in the cache.
    version : int
        Raised by the author whenever the output changes for the same input.
    requires : tuple of str
        Stages whose results are given to `run` whatever the parameters; see `requirements`.
    reads_frames : bool
        Whether `run` looks at the source frames.
    key_frames : tuple of str
        Facts of the clip that the output depends on: of ``onset``, ``apex``, ``offset``, ``fps``.
    libraries : tuple of str
        Libraries whose version enters the key: ``opencv``, or names of distributions.
    fields : tuple of Field
        The datasets given.
    Params : type
        Frozen dataclass of parameters.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    requires: tuple[str, ...] = ()
    reads_frames: ClassVar[bool] = False
    key_frames: ClassVar[tuple[str, ...]] = ()
    libraries: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    Params: ClassVar[type]

    def __init__(self, params: Any = None) -> None:
        self.params = self.Params() if params is None else params

    def identity(self) -> dict[str, str]:
        """Return further facts that enter the key, such as the digest of a model file."""
        return {}

    def check(self) -> None:
        """Raise `DependencyError` if the stage cannot work here; called before any clip."""

    def check_inputs(self, stages: Mapping[str, Stage]) -> None:
        """Raise `ConfigError` if the stages it rests on are set so that no clip can work."""

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        """Compute the stage for one clip.

        Parameters
        ----------
        clip : Clip
            The clip.
        frames : ClipFrames
            The source frames seen, as `SourceParams` says; T of them.
        inputs : mapping of str to mapping of str to ndarray
            For every required stage its arrays by name.

        Raises
        ------
        DecodeError, NoFaceError, ManifestError, MotionError
            If the clip's own data make the result impossible; the clip is quarantined.
        """
        raise NotImplementedError

    def stream(self, clip: Clip, frames: ClipFrames, inputs: Inputs) -> StageStream:
        """Compute the stage for one clip of any length; this is what a run calls.

        By default the inputs are read as a whole and given to `run`, which suits stages whose
        inputs and results are small. A stage that looks at every aligned frame or every flow
        overrides it, so that memory does not grow with the clip, and has
        ``return self.stream(clip, frames, inputs).whole()`` for its `run`.

        Parameters
        ----------
        clip, frames
            As for `run`.
        inputs : mapping of str to mapping of str to ndarray or StoredArray
            For every required stage its arrays by name; of a `StoredArray` only what is indexed
            is read.

        Raises
        ------
        DecodeError, NoFaceError, ManifestError, MotionError
            As `run` does, at once or while the blocks are taken.
        """
        read = {
            stage: {name: np.asarray(array) for name, array in arrays.items()}
            for stage, arrays in inputs.items()
        }
        output = self.run(clip, frames, read)
        return StageStream({}, lambda: output)


#: Libraries that several distributions bring.
_DISTRIBUTIONS = {
    "opencv": (
        "opencv-contrib-python-headless",
        "opencv-contrib-python",
        "opencv-python-headless",
        "opencv-python",
    ),
}


def library_versions(names: tuple[str, ...]) -> dict[str, str]:
    """Return the installed versions of libraries (``missing`` where there is none)."""
    versions = {}
    for name in names:
        versions[name] = "missing"
        for distribution in _DISTRIBUTIONS.get(name, (name,)):
            try:
                versions[name] = importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                continue
            break
    return versions


def describe(kind: type[Stage]) -> dict[str, Any]:
    """Return what a stage gives and takes, for people: fields, parameters, defaults, meanings."""
    return {
        "name": kind.name,
        "version": kind.version,
        "requires": list(kind.requires),
        "fields": [dataclasses.asdict(field) for field in kind.fields],
        "parameters": _describe_parameters(kind.Params),
    }


def describe_source() -> dict[str, Any]:
    """Return `SourceParams` in the form of `describe`."""
    return {
        "name": "source",
        "version": None,
        "requires": [],
        "fields": [],
        "parameters": _describe_parameters(SourceParams),
    }


def _describe_parameters(kind: type) -> list[dict[str, str]]:
    abouts = parameter_texts(kind)
    return [
        {
            "name": field.name,
            "default": canonical_json(field.default).strip('"'),
            "about": abouts.get(field.name, ""),
        }
        for field in dataclasses.fields(kind)
    ]


def build_stages(
    kinds: Mapping[str, type[Stage]],
    wanted: tuple[str, ...],
    settings: Mapping[str, Mapping[str, Any]],
) -> tuple[SourceParams, dict[str, Stage]]:
    """Build the wanted stages and all they require, in the order they run.

    Parameters
    ----------
    kinds : mapping of str to type
        All stages by name.
    wanted : tuple of str
        Names of the stages asked for.
    settings : mapping
        Parameters by stage and key; ``source`` holds those of `SourceParams`.

    Raises
    ------
    ConfigError
        For unknown stages, keys or values.
    """
    for name in wanted:
        check_option("stage", name, kinds)
    ordered: dict[str, Stage] = {}

    def add(name: str) -> None:
        if name in ordered:
            return
        params = make_params(kinds[name].Params, settings.get(name, {}), where=name)
        stage = kinds[name](params)
        for required in stage.requires:
            add(required)
        ordered[name] = stage

    for name in wanted:
        add(name)
    for stage in ordered.values():
        stage.check_inputs(ordered)
    known = {"source", *kinds}
    for name in settings:
        if name not in known:
            raise ConfigError(
                f"Unknown stage '{name}' in settings.{suggest(name, known)}",
                hint=f"stages: {', '.join(sorted(known))}",
            )
        if name != "source" and name not in ordered:
            raise ConfigError(
                f"Settings are given for stage '{name}', which this run does not use.",
                hint=f"stages of this run: {', '.join(ordered)}",
            )
    return make_params(SourceParams, settings.get("source", {}), where="source"), ordered
