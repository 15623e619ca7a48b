"""The errors a user can meet, and how they read.

Every message says what happened, where, why it matters and what to do about it.
"""

from __future__ import annotations


class MerPrepError(Exception):
    """Base of all errors raised on purpose.

    Parameters
    ----------
    what : str
        What happened, as one sentence.
    where : object, optional
        Clip, file, row or cell it happened at.
    why : str, optional
        Why it matters.
    hint : str, optional
        What to do.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: object | None = None,
        why: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.why = why
        self.hint = hint
        super().__init__(what, self.where, why, hint)

    def __str__(self) -> str:
        parts = [self.what]
        if self.where is not None:
            parts.append(f"where: {self.where}")
        if self.why:
            parts.append(f"why it matters: {self.why}")
        if self.hint:
            parts.append(f"what to do: {self.hint}")
        return "\n  ".join(parts)

    def __reduce__(self) -> tuple:
        # Keyword-only arguments do not survive the default pickling between processes.
        return _rebuild, (type(self), self.what, self.where, self.why, self.hint)


def _rebuild(
    kind: type[MerPrepError],
    what: str,
    where: str | None,
    why: str | None,
    hint: str | None,
) -> MerPrepError:
    return kind(what, where=where, why=why, hint=hint)


class ManifestError(MerPrepError):
    """A manifest, or a clip in it, is not what it must be."""


class NotAnnotatedError(ManifestError):
    """A policy takes annotated key frames only, and the clip has none: it is left out by choice."""


class AnnotationError(MerPrepError):
    """An annotation workbook cannot be understood."""


class DecodeError(MerPrepError):
    """A frame or video cannot be decoded, or not to the end."""


class SourceError(MerPrepError):
    """A source file cannot be read at this moment; another try may succeed."""


class NoFaceError(MerPrepError):
    """No usable face was found where one is needed."""


class MotionError(MerPrepError):
    """A result is not finite, or a clip is too short to hold the motion asked for."""


class ShardError(MerPrepError):
    """A shard is damaged, foreign, or cannot be written."""


class ShardAccessError(ShardError):
    """A shard may be whole, but the operating system does not let it be opened."""


class LeakError(MerPrepError):
    """A split would let a model see what it is tested on."""


class DependencyError(MerPrepError):
    """A package or model file that is needed is missing or clashes with another."""


class TrainingError(MerPrepError):
    """Training cannot go on: the loss is no number, memory is short, or a checkpoint is foreign."""


class ConfigError(MerPrepError):
    """An option or a configuration key is unknown or out of range."""

    exit_code = 2


class LockedError(MerPrepError):
    """Another live run holds the lock of a shard."""

    exit_code = 4


#: Errors that are the data's own: the same clip would fail again, so they are kept in the shard.
DATA_ERRORS = (AnnotationError, DecodeError, ManifestError, MotionError, NoFaceError)
