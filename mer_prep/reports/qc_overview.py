"""The first sections of a quality-control page: what a corpus is, and how its preparation went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from mer_prep.config import canonical_json
from mer_prep.manifest import ImportRecord, emotion_counts, subject_counts
from mer_prep.protocols.leaks import person_name
from mer_prep.reports.charts import Bar, bar_chart, histogram
from mer_prep.reports.markup import Html, counted, render
from mer_prep.reports.page import Section
from mer_prep.reports.qc_clips import (
    FIGURES,
    STATES,
    ClipRecord,
    figure,
    made_before_warnings,
)
from mer_prep.reports.qc_results import CorpusResults
from mer_prep.resources import data_names
from mer_prep.sources.facts import UNKNOWN, Version, corpus_facts
from mer_prep.sources.validation import expected_findings
from mer_prep.stages.base import library_versions

#: Rows of a table of clips; the filter shows the rest.
MOST_ROWS = 200

#: Figures drawn as histograms.
DRAWN = ("jitter", "motion", "flow", "confidence")


@dataclass(frozen=True)
class CountRow:
    """How many clips a class or subject has, and how they fared.

    Parameters
    ----------
    name : str
        The class or subject.
    clips : int
        Clips on the page.
    published : int, optional
        Clips that are published; None where nothing is.
    failed, warned : int
        Clips that failed, and that have warnings.
    jitter, lost : float, optional
        Median jitter of the alignment in px; frames without a face, of all clips.
    """

    name: str
    clips: int
    published: int | None
    failed: int
    warned: int
    jitter: float | None
    lost: int | None


def overview_sections(
    records: Sequence[ClipRecord],
    results: CorpusResults,
    imported: ImportRecord,
    *,
    whole: bool,
) -> list[Section]:
    """Return the sections above those of the subjects.

    Parameters
    ----------
    records : sequence of ClipRecord
        The clips of the page.
    results : CorpusResults
        Where they come from.
    imported : ImportRecord
        How the corpus was imported.
    whole : bool
        Whether the page shows the whole corpus; only then are counts compared with published ones.
    """
    sections = [
        Section("overview", "Overview", _overview(records, imported, whole=whole)),
        Section("figures", "Alignment, detection, motion", _figures(records)),
    ]
    failed = [one for one in records if one.state in ("failed", "left out")]
    warned = [one for one in records if one.warnings]
    if failed:
        sections.append(
            Section("failures", "Clips without a result", _failures(failed), note=str(len(failed)))
        )
    if warned:
        sections.append(
            Section(
                "warnings",
                "Warnings",
                _warnings(warned),
                note=counted(len(warned), "clip"),
            )
        )
    sections.append(Section("stages", "Stages and their parameters", _stages(records, results)))
    sections.append(Section("guide", "How to read a card", render("qc_guide.html")))
    return sections


def _overview(records: Sequence[ClipRecord], imported: ImportRecord, *, whole: bool) -> Html:
    clips = [one.clip for one in records]
    version = _published(imported) if whole else None
    by_class = _rows(
        records,
        lambda one: one.class_name,
        (version.emotions or {}) if version else {},
        emotion_counts(clips),
    )
    of_subjects = _as_spelt(version.per_subject or {}, subject_counts(clips)) if version else {}
    by_subject = _rows(records, lambda one: one.clip.subject, of_subjects, subject_counts(clips))
    states = Counter(one.state for one in records)
    chart = bar_chart(
        [Bar(row.name, row.clips, row.published) for row in by_class],
        title="Clips per class",
        unit="clips",
        expected="the published count" if version else "",
    )
    return render(
        "qc_overview.html",
        clips=len(records),
        subjects=len(by_subject),
        states=[(name, text, states[name]) for name, text in STATES.items() if states[name]],
        findings=expected_findings(clips, imported) if whole else [],
        imported=imported,
        by_class=by_class,
        by_subject=by_subject,
        published=version is not None,
        chart=chart,
        import_facts=_import_facts(imported),
    )


def _published(imported: ImportRecord) -> Version | None:
    """Return the published counts of the annotation's version; None where there are none."""
    if imported.synthetic or imported.source not in data_names("manifests", "corpora"):
        return None
    versions = corpus_facts(imported.source).versions
    return versions.get(imported.annotation_version or UNKNOWN)


def _as_spelt(published: Any, found: Any) -> dict[str, int]:
    """Return published counts by subject as the clips spell the subjects."""
    spelling = {person_name(subject): subject for subject in found}
    return {spelling.get(person_name(name), name): count for name, count in published.items()}


def _rows(records: Sequence[ClipRecord], key: Any, published: Any, counts: Any) -> list[CountRow]:
    groups: dict[str, list[ClipRecord]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    names = [*counts, *(name for name in published if name not in counts)]
    rows = []
    for name in names:
        group = groups.get(name, [])
        lost = _known(group, "lost")
        jitters = _known(group, "jitter")
        rows.append(
            CountRow(
                name=name,
                clips=len(group),
                published=published.get(name, 0) if published else None,
                failed=sum(one.state == "failed" for one in group),
                warned=sum(bool(one.warnings) for one in group),
                jitter=median(jitters) if jitters else None,
                lost=int(sum(lost)) if lost else None,
            )
        )
    return rows


def _known(records: Iterable[ClipRecord], name: str) -> list[float]:
    values = (figure(record, name) for record in records)
    return [value for value in values if value is not None]


def _import_facts(imported: ImportRecord) -> list[tuple[str, str]]:
    levels = Counter(one.level for one in imported.findings)
    facts = {
        "variant": imported.variant,
        "annotation version": imported.annotation_version,
        "errata applied": ", ".join(imported.errata),
        "options": ", ".join(f"{key} {value}" for key, value in imported.options.items()),
        "findings": ", ".join(counted(count, level) for level, count in levels.items()),
    }
    return [(name, str(value)) for name, value in facts.items() if value]


def _figures(records: Sequence[ClipRecord]) -> Html:
    charts = []
    for name in DRAWN:
        values = _known(records, name)
        _, _, title, unit = FIGURES[name]
        if values:
            label = f"{title} in {unit}" if unit else title
            chart = histogram(values, title=title, unit=label[0].lower() + label[1:])
            charts.append((title, chart, f"median {median(values):.3g} {unit}".strip(), values))
    errors = [
        abs(int(one.fact("apex", "apex_error")))
        for one in records
        if one.fact("apex", "apex_error") is not None
    ]
    lost = [one for one in records if figure(one, "lost")]
    detector = _known(records, "detector")
    return render(
        "qc_figures.html",
        charts=[
            (title, chart, f"{text}, {_extreme(title, values)}")
            for title, chart, text, values in charts
        ],
        apex=(len(errors), sum(errors) / len(errors), max(errors)) if errors else None,
        lost=lost[:MOST_ROWS],
        lost_frames=sum(int(figure(one, "lost") or 0) for one in records),
        known=sum(figure(one, "lost") is not None for one in records),
        detector=min(detector) if detector else None,
        frame_counts=[(one, int(figure(one, "lost") or 0)) for one in lost[:MOST_ROWS]],
    )


def _extreme(title: str, values: Sequence[float]) -> str:
    """Return the value to look at: the least confidence, else the largest."""
    if title == FIGURES["confidence"][2]:
        return f"least {min(values):.3g}"
    return f"largest {max(values):.3g}"


def _failures(failed: Sequence[ClipRecord]) -> Html:
    rows = [
        (one, one.failure.stage, one.failure.error, one.failure.message.partition("\n")[0])
        for one in failed[:MOST_ROWS]
        if one.failure is not None
    ]
    return render("qc_failures.html", rows=rows, more=len(failed) - len(rows))


def _warnings(warned: Sequence[ClipRecord]) -> Html:
    counts = Counter(origin for one in warned for origin, _ in one.warnings)
    rows = [(one, origin, text) for one in warned for origin, text in one.warnings]
    return render(
        "qc_warnings.html",
        counts=list(counts.items()),
        rows=rows[:MOST_ROWS],
        more=max(0, len(rows) - MOST_ROWS),
    )


def _stages(records: Sequence[ClipRecord], results: CorpusResults) -> Html:
    rows = []
    for stage in results.stages:
        headers = [
            plan.shards[stage.name].header
            for plan in results.plans
            if plan.shards[stage.name].header is not None
        ]
        created = sorted(header.created for header in headers if header is not None)
        rows.append(
            {
                "name": stage.name,
                "version": stage.version,
                "settings": stage.settings,
                "params": [(key, canonical_json(value)) for key, value in stage.params.items()],
                "clips": sum(stage.name in one.facts for one in records),
                "first": created[0] if created else "",
                "last": created[-1] if created else "",
                "missing": len(results.plans) - len(headers),
            }
        )
    return render(
        "qc_stages.html",
        rows=rows,
        others=results.others,
        unknown=made_before_warnings(records),
        libraries=sorted(library_versions(("opencv", "numpy", "scipy", "h5py")).items()),
    )
