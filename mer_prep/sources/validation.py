"""Checks a manifest again: its clips against the files, its counts against the published ones."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from mer_prep.checks import check_option
from mer_prep.errors import DecodeError, MerPrepError
from mer_prep.manifest import Clip, Finding, ImportRecord, emotion_counts, subject_counts
from mer_prep.protocols.leaks import person_name
from mer_prep.resources import data_names
from mer_prep.sources.facts import UNKNOWN, Version, corpus_facts
from mer_prep.sources.frames import source_files, source_path
from mer_prep.sources.images import check_complete, check_header, image_header

#: How frame files may be looked at.
LOOKS = ("exist", "headers", "whole")

#: Bytes of a frame read for its header.
HEADER_BYTES = 65_536

#: An expression longer than this is no micro-expression by any definition in use (0.5 s from
#: onset to offset; the longest in CASME II lasts 0.7 s), in seconds.
MAX_SECONDS = 1.0

#: Samplers of published models take eight frames.
FEW_FRAMES = 8


def expected_findings(clips: Sequence[Clip], record: ImportRecord) -> list[Finding]:
    """Compare the counts of an import with the published ones.

    Parameters
    ----------
    clips : sequence of Clip
        The clips of one corpus.
    record : ImportRecord
        How they were read.

    Returns
    -------
    list of Finding
        A warning for every count that differs, else one line that says what agrees. Synthetic
        corpora, and annotations of no known version, have nothing to be compared with.
    """
    if record.synthetic:
        message = "A synthetic corpus: there are no published counts to compare with."
        return [Finding("info", "counts-synthetic", message)]
    if record.source not in data_names("manifests", "corpora"):
        return []
    facts = corpus_facts(record.source)
    version = facts.versions.get(record.annotation_version or UNKNOWN)
    version = version and _of_chosen_type(version, record.options.get("expressions"))
    if version is None:
        message = f"The version of the annotation is {record.annotation_version or UNKNOWN}: there "
        message += "are no published counts to compare with."
        return [Finding("warning", "counts-unchecked", message)]
    differences = list(_differences(clips, version))
    if differences:
        return [
            Finding("warning", f"counts-{what}", f"{sentence} ({facts.title}, {version.name}).")
            for what, sentence in differences
        ]
    subjects = len({clip.subject for clip in clips})
    message = f"{len(clips)} clips of {subjects} subjects: all counts are as published "
    return [Finding("info", "counts-agree", f"{message}({facts.title}, {version.name}).")]


def _of_chosen_type(version: Version, chosen: str | None) -> Version:
    """Return what is published of the micro- or macro-expressions alone, if these were chosen."""
    if chosen is None or chosen not in (version.expression_types or {}):
        return version
    count = (version.expression_types or {})[chosen]
    types = {chosen: count}
    return Version(version.name, clips=count, expression_types=types, note=version.note)


def _differences(clips: Sequence[Clip], version: Version) -> Iterable[tuple[str, str]]:
    def one(what: str, found: int, expected: int | None) -> Iterable[tuple[str, str]]:
        if expected is not None and found != expected:
            yield what, f"{expected} {what} are published, {found} were found"

    def many(
        what: str, found: Mapping[str, int], expected: Mapping[str, int] | None
    ) -> Iterable[tuple[str, str]]:
        if not expected:
            return
        wrong = [
            f"{key} {found.get(key, 0)} instead of {expected.get(key, 0)}"
            for key in sorted({*found, *expected})
            if found.get(key, 0) != expected.get(key, 0)
        ]
        if wrong:
            yield what, f"Clips per {what} differ from the published ones: {', '.join(wrong)}"

    classes = Counter(str(clip.objective_class) for clip in clips if clip.objective_class)
    yield from one("clips", len(clips), version.clips)
    yield from one("folders", len({(c.subject, c.clip) for c in clips}), version.folders)
    yield from one("subjects", len({clip.subject for clip in clips}), version.subjects)
    yield from many("emotion", emotion_counts(clips), version.emotions)
    found, expected = subject_counts(clips), version.per_subject or {}
    # One person may be spelt s1 in one place and s01 in another; the clips' spelling is shown.
    spelling = {person_name(subject): subject for subject in found}
    by_person = {spelling.get(person_name(one), one): count for one, count in expected.items()}
    yield from many("subject", found, by_person)
    yield from many("objective class", classes, version.objective_classes)
    types = Counter(clip.expression_type for clip in clips)
    yield from many("expression type", types, version.expression_types)


def validate_clips(
    clips: Sequence[Clip],
    *,
    frames: str = "headers",
    max_seconds: float = MAX_SECONDS,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Check clips against each other and against their files.

    What the importer noted about a clip, and left among its flags, is not repeated.

    Parameters
    ----------
    clips : sequence of Clip
        Clips of one or more corpora.
    frames : {'exist', 'headers', 'whole'}
        How frame files are looked at: whether they exist; also their beginnings, to compare sizes
        within a clip; or every byte, which also finds truncated and damaged files.
    max_seconds : float
        Longest expression that gives no warning, in seconds.
    progress : callable, optional
        Called with (clips checked, clips in all).

    Returns
    -------
    list of Finding
        All that was found, in the order of the clips; nothing stops at the first.
    """
    check_option("frames", frames, LOOKS)
    findings = _clashes(clips)
    for done, clip in enumerate(clips, start=1):
        found = _key_frames(clip) + _length(clip, max_seconds) + _files(clip, frames)
        findings += [finding for finding in found if finding.code not in clip.flags]
        if progress is not None:
            progress(done, len(clips))
    return findings


def _clashes(clips: Sequence[Clip]) -> list[Finding]:
    findings = []
    for clip_id, count in Counter(clip.clip_id for clip in clips).items():
        if count > 1:
            message = f"The id stands {count} times."
            findings.append(Finding("error", "id-duplicate", message, clip_id))
    folded: dict[str, set[str]] = defaultdict(set)
    sources: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        folded[clip.clip_id.casefold()].add(clip.clip_id)
        if clip.source_digest:
            sources[clip.source_digest].append(clip)
    for ids in folded.values():
        if len(ids) > 1:
            message = f"Ids differ only by case: {', '.join(sorted(ids))}."
            findings.append(Finding("warning", "id-case-clash", message, min(ids)))
    for same in sources.values():
        findings += _same_source(same)
    return findings


def _same_source(clips: Sequence[Clip]) -> list[Finding]:
    """Report clips with the same frames, unless they are other expressions of one recording."""
    findings = []
    first = clips[0]
    for clip in clips[1:]:
        if clip.subject_id != first.subject_id:
            message = f"The same frames as {first.clip_id}, of another subject: a split by "
            message += "subject would train on what it tests."
            findings.append(Finding("error", "source-shared", message, clip.clip_id))
        elif (clip.onset, clip.offset) == (first.onset, first.offset):
            message = f"The same frames and key frames as {first.clip_id}."
            findings.append(Finding("warning", "source-duplicate", message, clip.clip_id))
    return findings


def _key_frames(clip: Clip) -> list[Finding]:
    findings = []
    onset, apex, offset = clip.onset, clip.apex, clip.offset

    def add(level: str, code: str, message: str) -> None:
        findings.append(Finding(level, code, message, clip.clip_id))

    if onset is not None and offset is not None and onset > offset:
        add("error", "onset-after-offset", f"Onset {onset} lies after offset {offset}.")
    if apex is not None:
        if (onset is not None and apex < onset) or (offset is not None and apex > offset):
            message = f"Apex {apex} lies outside of onset {onset} to offset {offset}."
            add("error", "apex-outside", message)
        elif apex in (onset, offset):
            add("warning", "apex-on-boundary", f"Apex {apex} is an end of the expression.")
    numbers = set(clip.frame_numbers)
    for name, value in (("onset", onset), ("apex", apex)):
        if value is not None and value not in numbers:
            add("error", f"{name}-not-on-disk", f"The {name} frame {value} is not on disk.")
    if offset is not None and offset not in numbers:
        message = f"The offset frame {offset} is not on disk; the last before it stands in."
        add("warning", "offset-not-on-disk", message)
    return findings


def _length(clip: Clip, max_seconds: float) -> list[Finding]:
    first = clip.frame_numbers[0] if clip.onset is None else clip.onset
    last = clip.frame_numbers[-1] if clip.offset is None else clip.offset
    count = sum(first <= number <= last for number in clip.frame_numbers)
    findings = []
    if count < 2:
        message = f"The expression has {count} frame{'s' * (count != 1)}; motion needs two."
        findings.append(Finding("error", "clip-short", message, clip.clip_id))
    elif count < FEW_FRAMES:
        message = f"The expression has {count} frames; some models need {FEW_FRAMES}."
        findings.append(Finding("warning", "clip-short", message, clip.clip_id))
    micro = clip.expression_type == "micro"
    annotated = micro and clip.onset is not None and clip.offset is not None
    if annotated and clip.fps and (last - first + 1) / clip.fps > max_seconds:
        seconds = (last - first + 1) / clip.fps
        message = f"The expression lasts {seconds:.2f} s, more than {max_seconds:g} s."
        findings.append(Finding("warning", "clip-long", message, clip.clip_id))
    return findings


def _files(clip: Clip, look: str) -> list[Finding]:
    """Report missing and unreadable files, and frames of another size than the first."""
    problems: dict[str, list[str]] = defaultdict(list)
    size: tuple[int, int] | None = None
    for relative in source_files(clip):
        try:
            path = source_path(clip, relative)
            if clip.video or look == "exist":
                continue
            found = _frame_size(path, whole=look == "whole")
        except MerPrepError as error:
            missing = not os.path.lexists(os.path.join(clip.root, relative))
            code = "file-missing" if missing else "frame-unreadable"
            text = relative if missing else f"{relative} ({error.what.rstrip('.')})"
            problems[code].append(text)
            continue
        size = size or found
        if found != size:
            text = f"{relative} is {found[0]}x{found[1]} px, not {size[0]}x{size[1]} px"
            problems["frame-size"].append(text)
    total = len(source_files(clip))
    return [
        Finding(
            "error",
            code,
            f"{_PROBLEMS[code]} ({len(texts)} of {total}); the first: {texts[0]}.",
            clip.clip_id,
        )
        for code, texts in problems.items()
    ]


_PROBLEMS = {
    "file-missing": "Files are missing",
    "frame-unreadable": "Frames cannot be read",
    "frame-size": "Frames differ in size",
}


def _frame_size(path: os.PathLike[str], *, whole: bool) -> tuple[int, int]:
    try:
        with open(path, "rb") as file:
            if whole:
                header = check_complete(file.read(), where=str(path))
                return header.width, header.height
            data = file.read(HEADER_BYTES)
            try:
                header = image_header(data, where=str(path))
            except DecodeError:
                # A long comment or colour profile may push the size beyond the first part.
                rest = file.read()
                if not rest:
                    raise
                header = image_header(data + rest, where=str(path))
    except OSError as error:
        raise DecodeError(
            f"The file cannot be read: {error.strerror}.",
            where=path,
            hint="check the disk or the network folder, then validate again",
        ) from None
    check_header(header, where=str(path))
    return header.width, header.height
