"""Quality control: one page per corpus with a card for every clip."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from mer_prep.checks import suggest
from mer_prep.errors import ManifestError, MerPrepError
from mer_prep.manifest import ImportRecord
from mer_prep.reports import qc_pictures as pictures
from mer_prep.reports.embedded import data_uri
from mer_prep.reports.markup import Html, counted, escaped, render
from mer_prep.reports.page import Banner, Page, Section, write_page
from mer_prep.reports.qc_card import Card, CardWork, draw_card
from mer_prep.reports.qc_clips import FIGURES, STATES, ClipRecord, clip_records
from mer_prep.reports.qc_overview import overview_sections
from mer_prep.reports.qc_results import Settings, find_results
from mer_prep.workspace import Workspace

KEYS = (
    ("j k", "next and previous clip"),
    ("ArrowDown ArrowUp", "the same"),
    ("/", "search; Esc leaves the field"),
    ("w", "only clips with warnings or failures, or all"),
    ("l", "landmarks on or off"),
    ("0", "take all filters away"),
)


@dataclass(frozen=True)
class Selection:
    """Which clips of a corpus a page shows.

    Parameters
    ----------
    subjects : tuple of str
        As ``<corpus>/<subject>``; all if empty.
    clips : tuple of str
        Clip ids; all if empty.
    """

    subjects: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.subjects or self.clips)


@dataclass
class QcSummary:
    """What became of a page.

    Parameters
    ----------
    corpus : str
        The corpus.
    path : Path
        The page.
    clips, subjects : int
        What it shows.
    states : dict of str to int
        Clips by `STATES`.
    bytes : int
        Its size.
    problems : list of str
        Clips that could not be drawn in full, and why.
    seconds : float
        Wall time.
    """

    corpus: str
    path: Path
    clips: int = 0
    subjects: int = 0
    states: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


def write_qc(
    workspace: Workspace,
    corpus: str,
    folder: Path,
    *,
    faces: bool = True,
    selection: Selection | None = None,
    settings: Settings | None = None,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> QcSummary:
    """Write the quality-control page of a corpus, ``qc-<corpus>.html``.

    Parameters
    ----------
    workspace : Workspace
        The workspace.
    corpus : str
        An imported corpus.
    folder : Path
        Where the page appears; that of a part of a corpus is ``qc-<corpus>-selection.html``.
    faces : bool
        Whether frames and dynamic images are shown.
    selection : Selection, optional
        Which clips; all by default.
    settings : mapping, optional
        Parameters by stage and key that the results must have been made with.
    jobs : int
        Processes that draw.
    progress : callable, optional
        Called with (cards drawn, clips).

    Raises
    ------
    ConfigError
        If no results were made with the settings.
    DependencyError
        If Jinja2 is not installed.
    ManifestError
        If the corpus folder is gone, or a clip or subject of the selection is not in the corpus.
    """
    started = time.monotonic()
    selection = selection or Selection()
    subjects, clips = _of_corpus(workspace, corpus, selection)
    imported = workspace.record(corpus)
    results = find_results(workspace, corpus, settings=settings or {}, subjects=subjects)
    records = clip_records(results, imported.findings, clips=clips)
    name = f"qc-{corpus}{'-selection' if selection else ''}.html"
    summary = QcSummary(corpus, folder / name, clips=len(records))
    summary.subjects = len({one.clip.subject for one in records})
    for one in records:
        summary.states[one.state] = summary.states.get(one.state, 0) + 1
    cards = _Cards(records, faces, jobs, progress, summary.problems)
    page = Page(
        title=f"Quality control: {corpus}",
        subtitle=_subtitle(summary, selection),
        banners=_banners(corpus, records, imported, faces=faces, selection=selection),
        sections=[
            *overview_sections(records, results, imported, whole=not selection),
            *_subject_sections(records, cards),
        ],
        toolbar=_toolbar(records),
        keys=KEYS,
        styles=("qc.css",),
        scripts=("qc.js",),
    )
    try:
        summary.bytes = write_page(page, summary.path)
    finally:
        cards.close()
    summary.seconds = time.monotonic() - started
    return summary


def _of_corpus(
    workspace: Workspace, corpus: str, selection: Selection
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the subjects and clips of a selection that are of a corpus."""
    known = workspace.clips(corpus)
    ids = {clip.clip_id: clip.subject_id for clip in known}
    subjects = tuple(one for one in selection.subjects if one.startswith(f"{corpus}/"))
    clips = tuple(one for one in selection.clips if one.startswith(f"{corpus}/"))
    for kind, chosen, there in (
        ("subject", subjects, set(ids.values())),
        ("clip", clips, set(ids)),
    ):
        for one in chosen:
            if one not in there:
                raise ManifestError(
                    f"There is no {kind} '{one}'.{suggest(one, sorted(there))}",
                    where=workspace.manifests,
                )
    if clips:
        of_clips = dict.fromkeys(ids[one] for one in clips)
        subjects = tuple(one for one in of_clips if not subjects or one in subjects)
    return subjects, clips


def _subtitle(summary: QcSummary, selection: Selection) -> str:
    parts = [f"{counted(summary.clips, 'clip')} of {counted(summary.subjects, 'subject')}"]
    parts += [
        f"{summary.states[name]:,} {text}"
        for name, text in STATES.items()
        if name in summary.states and name != "good"
    ]
    return ", ".join(parts) + (" (a selection)" if selection else "")


def _banners(
    corpus: str,
    records: Sequence[ClipRecord],
    imported: ImportRecord,
    *,
    faces: bool,
    selection: Selection,
) -> list[Banner]:
    banners = []
    if any(one.clip.restricted for one in records):
        what = "carries faces of a licensed corpus"
        if not faces:
            what = "shows no faces, but landmarks and motion derived from a licensed corpus"
        text = f"This page {what}. Do not share it, publish it or put it on an open server."
        banners.append(Banner("restricted", "RESTRICTED", text))
    if imported.synthetic or any(one.clip.synthetic for one in records):
        text = "These clips were made by <code>mer-prep synth</code>; they are no part of the real"
        banners.append(Banner("synthetic", "SYNTHETIC", Html(f"{text} {escaped(corpus)}.")))
    if selection:
        text = "Only the clips that were asked for are shown; counts are not those of the corpus."
        banners.append(Banner("note", "SELECTION", text))
    if not any(one.files for one in records):
        text = "Nothing has been computed of these clips, or nothing that is current. Run"
        command = f"<code>mer-prep flow {escaped(corpus)}</code>"
        banners.append(Banner("note", "NOT PREPARED", Html(f"{text} {command}.")))
    return banners


def _toolbar(records: Sequence[ClipRecord]) -> Html:
    there = {one.state for one in records}
    states = [(name, text) for name, text in STATES.items() if name in there]
    return render(
        "qc_toolbar.html",
        subjects=sorted({one.clip.subject for one in records}),
        classes=sorted({one.class_name for one in records}),
        states=states,
        figures=[(name, title) for name, (_, _, title, _) in FIGURES.items()],
        clips=len(records),
        wheel=data_uri(pictures.wheel_picture(), quality=85),
        ramp=data_uri(pictures.strain_scale(), quality=85),
    )


def _subject_sections(records: Sequence[ClipRecord], cards: _Cards) -> Iterator[Section]:
    for index, (subject, group) in enumerate(groupby(records, lambda one: one.clip.subject)):
        members = list(group)
        yield Section(
            f"subject-{index}",
            f"Subject {subject}",
            cards.take(len(members)),
            note=counted(len(members), "clip"),
        )


class _Cards:
    """Cards in the order of the clips, drawn by processes a few ahead of the page."""

    def __init__(
        self,
        records: Sequence[ClipRecord],
        faces: bool,
        jobs: int,
        progress: Callable[[int, int], None],
        problems: list[str],
    ) -> None:
        self._total = len(records)
        self._done = 0
        self._progress = progress
        self._problems = problems
        works = (CardWork(record, faces) for record in records)
        self._cards = map(draw_card, works) if jobs == 1 else _in_processes(works, jobs)

    def take(self, count: int) -> Iterator[Html]:
        """Yield the next cards."""
        for _ in range(count):
            card = next(self._cards)
            if card.problem:
                self._problems.append(card.problem)
            self._done += 1
            self._progress(self._done, self._total)
            yield card.html

    def close(self) -> None:
        """Let go of cards that nobody takes."""
        close = getattr(self._cards, "close", None)
        if close is not None:
            close()


def _in_processes(works: Iterator[CardWork], jobs: int) -> Iterator[Card]:
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    parallel = Parallel(
        n_jobs=jobs, backend="loky", return_as="generator", batch_size=1, pre_dispatch="3*n_jobs"
    )
    try:
        yield from parallel(delayed(draw_card)(work) for work in works)
    except (BrokenProcessPool, TerminatedWorkerError) as error:
        raise MerPrepError(
            f"A process that was drawing died: {str(error).splitlines()[0]}",
            why="most often the memory of the machine was full",
            hint="lower --jobs; no page was changed",
        ) from None
