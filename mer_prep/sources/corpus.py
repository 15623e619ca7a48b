"""Imports a corpus folder: one call for every kind of source."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from joblib import Parallel, delayed

from mer_prep.checks import check_option, check_range
from mer_prep.errors import ConfigError, ManifestError, MerPrepError
from mer_prep.manifest import Clip, Finding, ImportRecord, check_unique, synthetic_mark_of
from mer_prep.resources import data_names
from mer_prep.sources import (
    affwild2,
    casme,
    casme2,
    casme3,
    casme_sq,
    clips,
    four_dme,
    mmew,
    samm,
    samm_lv,
    smic,
)
from mer_prep.sources.annotations import file_sha256, files_sha256
from mer_prep.sources.expressions import Reading, with_flags
from mer_prep.sources.facts import corpus_facts
from mer_prep.sources.frames import source_digest
from mer_prep.sources.trees import Request, WholeNumber

#: Recorded as the annotation version of synthetic corpora.
SYNTHETIC_VERSION = "synthetic"


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of corpus folder that can be imported.

    Parameters
    ----------
    title : str
        Name of the corpus, or what is read.
    variants : tuple of str
        Forms it may have, the preferred one first.
    read : callable
        Reads a `Request` into a `Reading`.
    options : mapping of str to tuple of str or WholeNumber
        Choices that the corpus leaves to its reader, and what may be chosen, the default first.
    """

    title: str
    variants: tuple[str, ...]
    read: Callable[[Request], Reading]
    options: Mapping[str, tuple[str, ...] | WholeNumber] = field(default_factory=dict)


SOURCES: dict[str, Source] = {
    "casme": Source("CASME", casme.PREFERENCE, casme.read),
    "casme2": Source("CASME II", casme2.PREFERENCE, casme2.read),
    "samm": Source("SAMM", samm.PREFERENCE, samm.read),
    "smic": Source("SMIC and SMIC-E", smic.PREFERENCE, smic.read),
    "casme_sq": Source("CAS(ME)^2", casme_sq.PREFERENCE, casme_sq.read, casme_sq.OPTIONS),
    "casme3": Source("CAS(ME)^3", casme3.PREFERENCE, casme3.read, casme3.OPTIONS),
    "samm_lv": Source("SAMM Long Videos", samm_lv.PREFERENCE, samm_lv.read, samm_lv.OPTIONS),
    "affwild2": Source("Aff-Wild2", affwild2.PREFERENCE, affwild2.read, affwild2.OPTIONS),
    "mmew": Source("MMEW", mmew.PREFERENCE, mmew.read),
    "4dme": Source("4DME", four_dme.PREFERENCE, four_dme.read),
    "clips": Source("any folder of frame folders or videos", (), clips.read),
}


@dataclass(frozen=True)
class Imported:
    """What an import gives.

    Parameters
    ----------
    clips : list of Clip
        The clips in the order of the annotation (of the folders where there is none).
    record : ImportRecord
        How the corpus was read and what was noticed.
    """

    clips: list[Clip]
    record: ImportRecord


def import_corpus(
    source: str,
    root: Path,
    *,
    annotations: Path | None = None,
    variant: str | None = None,
    errata: bool | Collection[str] = True,
    name: str | None = None,
    restricted: bool = True,
    options: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    jobs: int = 1,
) -> Imported:
    """Read a corpus folder into clips. Nothing is written, and nothing in the folder changes.

    What is wrong with single clips is collected as findings. What makes the whole import doubtful
    (another corpus, an annotation that cannot be understood) is an error.

    Parameters
    ----------
    source : str
        One of `SOURCES`.
    root : Path
        The corpus folder.
    annotations : Path, optional
        Annotation workbook; for ``clips`` a CSV file. Searched for if None (not for ``clips``).
    variant : str, optional
        Form of the corpus, see `Source.variants`; the preferred one that is there if None.
    errata : bool or collection of str
        Apply the known errata, but for those that are optional, none, or those named.
    name : str, optional
        Name the corpus gets; that of the source if None.
    restricted : bool
        Mark the clips, and so all that is made from them, as not to be passed on. Licensed corpora
        always are, synthetic ones never.
    options : mapping of str to str, optional
        What to choose where the corpus leaves a choice, see `Source.options`.
    progress : callable, optional
        Called with (clips hashed, clips in all).
    jobs : int
        Threads that hash frames; -1 takes one per core.

    Returns
    -------
    Imported

    Raises
    ------
    ConfigError
        For an unknown source, variant, erratum or option, or an unusable name.
    ManifestError
        If the folder is missing, is not of that corpus, or two clips are one.
    AnnotationError
        If the annotation is missing or cannot be understood; the cell is named.
    """
    check_option("source", source, SOURCES)
    if jobs != -1:
        check_range("jobs", jobs, low=1)
    folder = _unicode_path(root)
    synthetic = synthetic_mark_of(folder) is not None
    request = Request(
        root=folder,
        name=check_corpus_name(source if name is None else name),
        annotations=None if annotations is None else Path(os.path.abspath(annotations)),
        variant=variant,
        # A synthetic clip may share its name with a real one, but not its mistakes.
        errata=False if synthetic else errata,
        options=_options(source, options or {}),
    )
    reading = SOURCES[source].read(request)
    if not synthetic:
        _check_not_marked(reading.clips)
    if synthetic and reading.version is not None:
        reading.version = SYNTHETIC_VERSION
        reading.findings = [
            item for item in reading.findings if not item.code.startswith("annotation-")
        ]
    if not reading.clips:
        raise ManifestError(
            "No clip could be imported.",
            where=request.root,
            why="every one of them has an error",
            hint="; ".join(str(item) for item in reading.findings[:5]) or None,
        )
    check_unique(reading.clips)
    found = [
        dataclasses.replace(
            clip,
            synthetic=synthetic,
            restricted=(reading.restricted or restricted) and not synthetic,
        )
        for clip in reading.clips
    ]
    found = _with_digests(found, reading.findings, jobs=jobs, progress=progress)
    path = reading.annotations
    record = ImportRecord(
        corpus=request.name,
        source=source,
        root=str(request.root),
        variant=reading.variant,
        annotations=None if path is None else str(path),
        annotations_sha256=_annotations_digest(reading),
        annotation_version=reading.version,
        errata=reading.errata,
        synthetic=synthetic,
        options=request.options,
        findings=tuple(_printable(finding) for finding in reading.findings),
        recordings=tuple(reading.recordings),
    )
    return Imported(with_flags(found, reading.findings), record)


def _annotations_digest(reading: Reading) -> str | None:
    if reading.annotation_files:
        return files_sha256(reading.annotation_files)
    return None if reading.annotations is None else file_sha256(reading.annotations)


def _options(source: str, chosen: Mapping[str, str]) -> dict[str, str]:
    """Return the choices for a source, the defaults filled in."""
    known = SOURCES[source].options
    for name, value in chosen.items():
        if name not in known:
            raise ConfigError(
                f"{SOURCES[source].title} leaves no choice of '{name}'.",
                hint=f"choices it leaves: {', '.join(known) or 'none'}",
            )
        _check_choice(name, value, known[name])
    return {name: chosen.get(name, _default(values)) for name, values in known.items()}


def _check_choice(name: str, value: str, allowed: tuple[str, ...] | WholeNumber) -> None:
    if not isinstance(allowed, WholeNumber):
        check_option(name, value, allowed)
    elif re.fullmatch(r"\d{1,9}", value) is None:
        raise ConfigError(f"'{name}' must be a whole number, not {value!r}.")
    else:
        check_range(name, int(value), low=allowed.low)


def _default(allowed: tuple[str, ...] | WholeNumber) -> str:
    return str(allowed.default) if isinstance(allowed, WholeNumber) else allowed[0]


def _check_not_marked(clips: Sequence[Clip]) -> None:
    """Refuse clips of a synthetic corpus that lies further down: they would pass for real ones."""
    folders = {
        (Path(clip.root) / name).parent
        for clip in clips
        for name in (clip.frames[:1] or (clip.video,))
        if name
    }
    for folder in sorted(folders):
        marked = synthetic_mark_of(folder)
        if marked is not None:
            raise ManifestError(
                "The folder holds a synthetic corpus further down.",
                where=marked,
                why="its clips would pass for real ones",
                hint="import that folder itself",
            )


def erratum_names(source: str, *, optional: bool = True) -> list[str]:
    """Return the names of the errata known of a source, optional ones too; none for ``clips``."""
    check_option("source", source, SOURCES)
    if source not in data_names("manifests", "corpora"):
        return []
    errata = corpus_facts(source).errata
    return [erratum.name for erratum in errata if optional or not erratum.optional]


def check_corpus_name(name: str) -> str:
    """Return `name` if it can be part of file names and clip ids.

    Raises
    ------
    ConfigError
        If it is anything but lower-case letters, digits, ``_`` and ``-``.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
        return name
    raise ConfigError(
        f"{name!r} cannot be the name of a corpus.",
        hint="use up to 64 lower-case letters, digits, '_' and '-', beginning with a letter or "
        "digit",
    )


def _unicode_path(root: Path) -> Path:
    path = os.path.abspath(root)
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise ManifestError(
            f"The path of the corpus folder is not valid Unicode: {path!a}.",
            why="manifests are UTF-8 text",
            hint="rename the folder, or reach it through a link",
        ) from None
    return Path(path)


def _printable(finding: Finding) -> Finding:
    """Return a finding whose texts can be printed and stored, whatever the file names hold."""

    def escaped(text: str | None) -> str | None:
        if text is None or text.isprintable():
            return text
        characters = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
        return "".join(characters)

    message = escaped(finding.message) or ""
    return dataclasses.replace(finding, message=message, where=escaped(finding.where))


def _with_digests(
    found: Sequence[Clip],
    findings: list[Finding],
    *,
    jobs: int,
    progress: Callable[[int, int], None] | None,
) -> list[Clip]:
    """Return the clips with the digests of their sources; unreadable ones give findings."""
    # Threads suffice: hashing and reading both release the interpreter's lock.
    run = Parallel(n_jobs=jobs, prefer="threads", return_as="generator")
    result = []
    for clip, digest in zip(found, run(delayed(_digest)(clip) for clip in found), strict=True):
        if isinstance(digest, MerPrepError):
            place = digest.where
            findings.append(Finding("error", "source-unreadable", digest.what, clip.clip_id, place))
            result.append(clip)
        else:
            result.append(dataclasses.replace(clip, source_digest=digest))
        if progress is not None:
            progress(len(result), len(found))
    return result


def _digest(clip: Clip) -> str | MerPrepError:
    try:
        return source_digest(clip)
    except MerPrepError as error:
        return error
