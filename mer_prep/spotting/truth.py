"""The ground truth of spotting, from the manifests of imported corpora."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from mer_prep.checks import check_option
from mer_prep.errors import ManifestError
from mer_prep.manifest import EXPRESSION_TYPES, Clip, ImportRecord, Recording
from mer_prep.spotting.intervals import Interval, Truth, Video
from mer_prep.workspace import Workspace

#: What stands in for an offset that nobody annotated; see `read_ground_truth`.
MISSING_OFFSET = ("apex", "mirror", "drop")

#: What becomes of macro-expressions annotated from the start of their recording.
ONSET_AT_START = ("drop", "keep")

#: Sources whose corpora have long videos, and the variants that hold them whole.
LONG_VIDEOS = {
    "casme_sq": ("raw",),
    "casme3": ("part-a", "part-c"),
    "samm_lv": ("long",),
    "smic": ("SMIC-E-HS", "SMIC-E-VIS", "SMIC-E-NIR"),
}

#: Findings of rows whose expression is annotated, but in no manifest.
_LEFT_OUT = (
    *("clip-folder-missing", "clip-empty", "frames-unusable", "clip-not-on-disk"),
    "row-unreadable",
)


@dataclass(frozen=True, slots=True)
class Policy:
    """How the ground truth treats what the annotation leaves open.

    Parameters
    ----------
    missing_offset : {'apex', 'mirror', 'drop'}
        Where no offset is annotated: the apex, ``2 apex - onset``, or no expression.
    onset_at_start : {'drop', 'keep'}
        Macro-expressions of SAMM Long Videos with an onset of 0 or 1, which span their recording
        and which published baselines leave out.

    Raises
    ------
    ConfigError
        If a value is another.
    """

    missing_offset: str = "apex"
    onset_at_start: str = "drop"

    def __post_init__(self) -> None:
        check_option("missing-offset", self.missing_offset, MISSING_OFFSET)
        check_option("onset-at-start", self.onset_at_start, ONSET_AT_START)


def corpora_with_recordings(workspace: Workspace, names: tuple[str, ...]) -> list[str]:
    """Return the corpora that were imported with their long videos.

    Parameters
    ----------
    workspace : Workspace
        Where they were imported.
    names : tuple of str
        Those asked for; all that have long videos if empty.

    Raises
    ------
    ManifestError
        If a corpus asked for has none, or no corpus has.
    """
    chosen = workspace.select(names)
    found = [name for name in chosen if workspace.record(name).recordings]
    lacking = [name for name in chosen if name not in found]
    if names and lacking:
        raise _no_recordings(workspace.record(lacking[0]))
    if not found:
        raise ManifestError(
            "No imported corpus has long videos to spot in.",
            where=workspace.manifests,
            hint=f"import recordings of {', '.join(LONG_VIDEOS)}, or import them again if that was "
            "before their lists of recordings were kept",
        )
    return found


def _no_recordings(record: ImportRecord) -> ManifestError:
    variants = LONG_VIDEOS.get(record.source)
    if variants is None:
        hint = f"corpora with long videos: {', '.join(LONG_VIDEOS)}; or give --truth FILE"
    else:
        hint = f"import it again from its recordings (--variant {' or '.join(variants)})"
    return ManifestError(
        f"{record.corpus} was imported without long videos"
        + (f", as '{record.variant}'." if record.variant else "."),
        why="what is spotted in videos without expressions counts, so all of them must be known",
        hint=hint,
    )


def read_ground_truth(
    workspace: Workspace,
    corpora: Sequence[str],
    *,
    types: Sequence[str] = EXPRESSION_TYPES,
    policy: Policy | None = None,
) -> Truth:
    """Return the ground truth of imported corpora.

    Parameters
    ----------
    workspace : Workspace
        Where the corpora were imported.
    corpora : sequence of str
        Corpora with long videos.
    types : sequence of {'micro', 'macro'}
        Types of expression; the others are left out.
    policy : Policy, optional
        What to do where the annotation leaves something open.

    Returns
    -------
    Truth
        Every recording of the corpora, and the expressions by video and onset. Whatever is left
        out is counted in a note.

    Raises
    ------
    ManifestError
        If a corpus has no list of recordings, or was imported without a type asked for.
    """
    policy = policy or Policy()
    videos: list[Video] = []
    intervals: list[Interval] = []
    notes: list[str] = []
    synthetic = False
    for corpus in corpora:
        record, clips = workspace.record(corpus), workspace.clips(corpus)
        if not record.recordings:
            raise _no_recordings(record)
        _check_types(record, types)
        chosen = [clip for clip in clips if clip.expression_type in types]
        videos += [_video(corpus, one) for one in record.recordings]
        found, reasons = _intervals(chosen, record.recordings, policy)
        intervals += found
        notes += [f"{corpus}: {count} {reason}" for reason, count in reasons.items()]
        notes += _not_in_manifest(record, clips, policy)
        synthetic |= record.synthetic
    intervals.sort(key=lambda one: (one.video, one.onset, one.offset, one.type))
    return Truth(tuple(videos), tuple(intervals), tuple(notes), synthetic)


def _check_types(record: ImportRecord, types: Iterable[str]) -> None:
    """Refuse a type that the import left out: whatever is spotted of it would count as false."""
    read = record.options.get("expressions", "all")
    for kind in types:
        if read not in ("all", kind):
            raise ManifestError(
                f"The {kind}-expressions of {record.corpus} were left out at import.",
                why="whatever is spotted of them would count as false",
                hint=f"import it again with --expressions all, or score with --type {read}",
            )


def _video(corpus: str, one: Recording) -> Video:
    return Video(f"{corpus}/{one.name}", f"{corpus}/{one.subject}", one.first, one.last)


def _intervals(
    clips: Sequence[Clip], recordings: Sequence[Recording], policy: Policy
) -> tuple[list[Interval], Counter[str]]:
    """Return the expressions, and how many were left out or changed for which reason."""
    by_folder = {one.folder: one for one in recordings}
    found = []
    reasons: Counter[str] = Counter()
    for clip in clips:
        folder = PurePosixPath(clip.frames[0]).parent
        # The parent of a frame in the root itself is written as a dot.
        recording = by_folder.get("" if folder == PurePosixPath(".") else str(folder))
        if recording is None:
            raise ManifestError(
                f"The frames of {clip.clip_id} lie in no recording of the import.",
                where=folder,
                hint=f"import {clip.corpus} again",
            )
        if policy.onset_at_start == "drop" and "onset-at-start" in clip.flags:
            reasons["macro-expressions from the start of their recording left out"] += 1
            continue
        onset = recording.first if clip.onset is None else clip.onset
        if clip.onset is None:
            reasons["expressions without onset taken from the first frame on"] += 1
        offset = clip.offset
        if offset is None or "offset-missing" in clip.flags:
            offset, reason = _offset(onset, clip.apex, policy.missing_offset)
            reasons[reason] += 1
        if offset is None:
            continue
        if offset < onset:
            reasons["expressions whose onset lies after their offset left out"] += 1
            continue
        if offset > recording.last:
            reasons["expressions that end after the last frame of their recording left out"] += 1
            continue
        name = f"{clip.corpus}/{recording.name}"
        found.append(Interval(name, onset, offset, clip.expression_type, clip.emotion))
    distinct = list(dict.fromkeys(found))
    if len(distinct) < len(found):
        reasons["expressions annotated twice counted once"] = len(found) - len(distinct)
    return distinct, reasons


def _offset(onset: int, apex: int | None, policy: str) -> tuple[int | None, str]:
    """Return what stands in for an offset, and what is said of it."""
    without = "expressions without an offset"
    if policy == "drop":
        return None, f"{without} left out"
    if apex is None:
        return None, f"{without} or an apex left out"
    if policy == "apex":
        return apex, f"{without} end at their apex"
    return max(2 * apex - onset, apex), f"{without} end as long after the apex as they began before"


def _not_in_manifest(record: ImportRecord, clips: Sequence[Clip], policy: Policy) -> list[str]:
    """Return notes on expressions that are annotated but that the import left out."""
    known = {clip.clip_id for clip in clips}
    lost = [one for one in record.findings if one.code in _LEFT_OUT and one.clip_id not in known]
    dropped = [
        one for one in record.findings if one.code == "offset-missing" and one.clip_id not in known
    ]
    notes = []
    if lost:
        notes.append(
            f"{record.corpus}: {len(lost)} annotated expressions are not in the manifest and not "
            "in this truth; see `mer-prep validate`"
        )
    if dropped and policy.missing_offset != "drop":
        notes.append(
            f"{record.corpus}: {len(dropped)} expressions without an offset were left out at "
            "import (--missing-offset drop) and are not in this truth"
        )
    return notes
