"""What a run did, for the command line and for the list of failures."""

from __future__ import annotations

from dataclasses import dataclass, field

from mer_prep.errors import LockedError, NotAnnotatedError
from mer_prep.stages.worker import ClipReport
from mer_prep.store.shard import Failure

#: The error of clips that are left out by choice.
LEFT_OUT = NotAnnotatedError.__name__


@dataclass
class RunSummary:
    """What a run did.

    Parameters
    ----------
    clips : int
        Clips of the plan.
    computed : set of str
        Clips of which at least one stage was computed.
    cached : int
        Clips whose results were all there.
    failures : list of Failure
        Quarantined clips, of this run and of the shards it found.
    crashes : list of ClipReport
        Clips that met an unexpected error; they are tried again next time.
    locked : list of LockedError
        Shards that another run is writing.
    published : int
        Shards published.
    warnings : list of str
        Sentences of the stages, with the clip.
    seconds : float
        Wall time.
    decoded : int
        Frames decoded.
    stage_seconds : dict of str to float
        Time by stage, added up over clips and processes; the decoding of frames counts for the
        stage that first looks at them.
    interrupted : bool
        Whether Ctrl-C stopped the run.
    """

    clips: int = 0
    computed: set[str] = field(default_factory=set)
    cached: int = 0
    failures: list[Failure] = field(default_factory=list)
    crashes: list[ClipReport] = field(default_factory=list)
    locked: list[LockedError] = field(default_factory=list)
    published: int = 0
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    decoded: int = 0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def quarantined(self) -> set[str]:
        """Ids of the clips that were quarantined or crashed, without those left out by choice."""
        failed = {f.clip_id for f in self.failures if f.error != LEFT_OUT}
        return failed | {c.clip_id for c in self.crashes}

    @property
    def left_out(self) -> set[str]:
        """Ids of the clips that a stage leaves out since a key frame is not annotated."""
        return {f.clip_id for f in self.failures if f.error == LEFT_OUT} - self.quarantined
