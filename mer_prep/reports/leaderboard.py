"""The leaderboard as a page: the table, its intervals, corpora, published figures, and facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mer_prep.metrics import SCORES
from mer_prep.progress import duration
from mer_prep.reports.charts import Span, span_chart
from mer_prep.reports.markup import Html, render
from mer_prep.reports.page import Banner, Page, Section
from mer_prep.training.cards import model_card
from mer_prep.training.leaderboard import changes_of, published_whole
from mer_prep.training.recipes import SELECTED
from mer_prep.training.selection import leaks_of, marked_name

#: How the selection behind a published figure looks.
_KINDS = {"leak-free": "good", "test-subject": "bad", "not-stated": ""}


def leaderboard_page(facts: Mapping[str, Any]) -> Page:
    """Return the page of a leaderboard.

    Parameters
    ----------
    facts : mapping
        As `mer_prep.training.leaderboard.leaderboard_facts` gives them.
    """
    sections = [
        Section("board", "Leaderboard", _board(facts)),
        Section("intervals", "Intervals", _intervals(facts)),
    ]
    if facts["against"]:
        sections.append(Section("against", f"Against {facts['against']}", _against(facts)))
    if len(facts["corpora"]) > 1:
        sections.append(Section("corpora", "By corpus", _parts(facts)))
    sections.append(Section("published", "Published figures", _published(facts)))
    sections.append(Section("what", "What was compared", _facts(facts)))
    if facts["failed"]:
        failed = render("leaderboard_failed.html", failed=facts["failed"])
        sections.append(Section("failed", "Not in the table", failed, str(len(facts["failed"]))))
    return Page(
        title="Leaderboard",
        subtitle=f"{facts['labels']}, {facts['protocol']}, {facts['clips']} clips of "
        f"{facts['subjects']} subjects in {facts['folds']} folds",
        banners=list(_banners(facts)),
        sections=sections,
        styles=("run.css", "leaderboard.css"),
        scripts=("leaderboard.js",),
    )


def _banners(facts: Mapping[str, Any]) -> Iterator[Banner]:
    if facts["leaky"]:
        text = "Some runs chose their step on the test subject. They stand last, and mean nothing."
        yield Banner("leaky", "LEAKY", text)
    if facts["transductive"]:
        text = "Some runs trained on frames of the test subjects, without their labels."
        yield Banner("leaky", "TRANSDUCTIVE", text)
    if facts["failed"]:
        yield Banner("note", "INCOMPLETE", f"Not in the table: {', '.join(facts['failed'])}.")
    if facts["synthetic"]:
        text = "Made-up clips: these are no scores of a corpus, and they rank nothing."
        yield Banner("synthetic", "SYNTHETIC", text)


def _board(facts: Mapping[str, Any]) -> Html:
    against = facts["against"]
    controls = any(one["control"] for one in facts["entries"])
    largest = facts["largest_class"]
    rows = [_row(one, against=against, controls=controls) for one in facts["entries"]]
    nothing = [(None, "", "")] * (3 + bool(against) + controls)
    rows.append(
        {
            "name": f"always “{largest['class']}”",
            "marks": [],
            "note": "",
            "baseline": True,
            "scores": [(largest[score], None) for score in SCORES],
            "cells": nothing,
            "input": "",
        }
    )
    return render(
        "leaderboard_table.html",
        names=list(SCORES.values()),
        rows=rows,
        against=against,
        controls=controls,
        synthetic=facts["synthetic"],
        caption=f"{facts['clips']} clips, {facts['labels']}, {facts['protocol']}",
    )


def _row(one: Mapping[str, Any], *, against: str | None, controls: bool) -> dict[str, Any]:
    seconds, printed = one["training_seconds"], published_whole(one)
    cells = [
        (one["parameters"], f"{one['parameters']:,}", ""),
        (seconds, "–" if seconds is None else duration(seconds), ""),
    ]
    if against:
        cells.append(_test(one))
    if controls:
        cells.append(_control(one))
    uf1 = printed["scores"].get("uf1") if printed else None
    cells.append(
        (None, "–", "")
        if uf1 is None or printed is None
        else (uf1, f"{uf1:.3f}", SELECTED[printed["selected"]])
    )
    doubt = "" if one["beats_largest_class"] or one["leaky"] else "not known to beat chance"
    return {
        "name": one["name"],
        "marks": leaks_of(one),
        "note": "; ".join(text for text in (changes_of(one), doubt) if text),
        "baseline": False,
        "scores": [(one["scores"][score], one["interval_95"][score]) for score in SCORES],
        "cells": cells,
        "input": one["input"],
    }


def _test(one: Mapping[str, Any]) -> tuple[float | None, str, str]:
    found = one["against"]
    if not found:
        return None, "–", ""
    return found["p_holm"], f"{found['p_holm']:.3g}", ""


def _control(one: Mapping[str, Any]) -> tuple[float | None, str, str]:
    found = one["control"]
    if not found:
        return None, "–", ""
    low, high = found["interval_95"]["uf1"]
    return found["scores"]["uf1"], f"{found['scores']['uf1']:.3f}", f"{low:.3f}–{high:.3f}"


def _intervals(facts: Mapping[str, Any]) -> Html:
    spans = []
    for one in facts["entries"]:
        spans.append(Span(marked_name(one), one["scores"]["uf1"], *one["interval_95"]["uf1"]))
        if one["control"]:
            found = one["control"]
            low, high = found["interval_95"]["uf1"]
            spans.append(
                Span(f"{one['name']}, shuffled", found["scores"]["uf1"], low, high, faint=True)
            )
    largest = facts["largest_class"]
    return span_chart(
        spans,
        title="UF1 of every model with its 95 % interval",
        label="UF1",
        line=largest["uf1"],
        line_name=f"always “{largest['class']}”",
    )


def _against(facts: Mapping[str, Any]) -> Html:
    rows = [(marked_name(one), one["against"]) for one in facts["entries"] if one["against"]]
    return render("leaderboard_against.html", against=facts["against"], rows=rows)


def _parts(facts: Mapping[str, Any]) -> Html:
    rows = [
        (
            marked_name(one),
            [(one["parts"][part]["uf1"], one["parts"][part]["uar"]) for part in facts["corpora"]],
        )
        for one in facts["entries"]
    ]
    return render("leaderboard_parts.html", corpora=facts["corpora"], rows=rows)


def _published(facts: Mapping[str, Any]) -> Html:
    rows: dict[tuple[Any, ...], None] = {}
    for one in facts["entries"]:
        for found in one["published"]:
            scores = tuple(found["scores"].get(score) for score in SCORES)
            kind, selected = _KINDS[found["selected"]], SELECTED[found["selected"]]
            # Presets of one model have their published figures in common.
            rows[one["model"], found["part"], scores, kind, selected, found["source"]] = None
    models = dict.fromkeys(row[0] for row in rows)
    return render(
        "leaderboard_published.html",
        names=list(SCORES.values()),
        rows=list(rows),
        references=[(name, model_card(name).reference) for name in models],
        synthetic=facts["synthetic"],
    )


def _facts(facts: Mapping[str, Any]) -> Html:
    entries = facts["entries"]
    seeds = sorted({one["seed"] for one in entries})
    shown = [
        ("label map", facts["labels"]),
        ("classes", ", ".join(facts["classes"])),
        ("protocol", f"{facts['protocol']}, {facts['folds']} folds"),
        ("corpora", ", ".join(facts["corpora"])),
        ("selection", ", ".join(sorted({one["selection"] for one in entries}))),
        ("seeds", ", ".join(map(str, seeds))),
        ("computed on", "; ".join(sorted({two for one in entries for two in one["devices"]}))),
        ("threads", ", ".join(sorted({str(n) for one in entries for n in one["threads"]})) or "–"),
        ("clip list", facts["passport"]["clip_list"][:16] or "–"),
        ("frames", facts["passport"]["sources"][:16]),
        ("folds", facts["passport"]["folds"][:16]),
        ("mer-prep", facts["mer_prep"]),
    ]
    shown += [(marked_name(one), f"run {one['run']}") for one in entries]
    return render(
        "run_facts.html",
        facts=shown,
        warnings=[],
        choices=[],
        note="Training is the wall time of all folds, added up, on a machine that may have done "
        "other things as well; it is not known of runs that an earlier version trained.",
    )
