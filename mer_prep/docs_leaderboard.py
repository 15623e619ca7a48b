"""The page of the synthetic leaderboard, made from what `mer-prep leaderboard` wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mer_prep.config import parse_json_object
from mer_prep.docs_pages import table
from mer_prep.progress import duration
from mer_prep.training.cards import MODELS
from mer_prep.training.selection import marked_name

#: In ``docs/models``: a leaderboard of synthetic clips, as the command wrote it.
FACTS = "leaderboard.json"

_MADE = "<!-- Made from leaderboard.json by `python -m mer_prep.docs_pages`. -->"

#: How weights behind a published figure were chosen, in a cell.
_SELECTED = {
    "leak-free": "leak-free",
    "test-subject": "on the test subject",
    "not-stated": "not stated",
}


def leaderboard_pages(folder: Path) -> dict[str, str]:
    """Return the page by its file name.

    Parameters
    ----------
    folder : Path
        Where `FACTS` lies.

    Raises
    ------
    ValueError
        If the figures are not of synthetic clips: others belong to whoever holds the corpora.
    """
    facts = parse_json_object((folder / FACTS).read_text(encoding="utf-8"))
    if not facts["synthetic"]:
        raise ValueError(f"{folder / FACTS} holds figures of licensed corpora")
    return {"leaderboard.md": leaderboard_markdown(facts)}


def leaderboard_markdown(facts: Mapping[str, Any]) -> str:
    """Return the page of a leaderboard of synthetic clips.

    Parameters
    ----------
    facts : mapping
        As `mer_prep.training.leaderboard.leaderboard_facts` gives them.
    """
    against = f" --against {facts['against'].partition(':')[0]}" if facts["against"] else ""
    presets = sorted({one["preset"] for one in facts["entries"]})
    named = {one["name"] for one in facts["entries"]} | set(facts["failed"])
    every = {f"{name}:{presets[0]}" for name, card in MODELS.items() if presets[0] in card.presets}
    missing = sorted(one.partition(":")[0] for one in every - named)
    chosen = f"--all {presets[0]}"
    if missing or len(presets) > 1:
        chosen = " ".join(f"--model {one['name']}" for one in facts["entries"])
    controls = " --shuffled" if any(one["control"] for one in facts["entries"]) else ""
    parts = [
        "# Leaderboard of the models",
        _MADE,
        f"```sh\nmer-prep leaderboard {chosen}{controls}{against}\n```",
        "trains these models on the same folds of one composite, side by side, and writes one "
        "table: `reports/leaderboard.html`, `.csv` and `.json` in the workspace. Every model is an "
        "ordinary run, found finished or gone on with; `--model NAME:PRESET` chooses, "
        "`--all PRESET` takes every model that has the preset, `--run RUN` adds a finished run, "
        "`--jobs` and `--shard` spread the folds. Runs of other clips, labels or folds are refused "
        "by name. A model that cannot be trained is named below the table, and the others are in "
        "it.",
        f"## SYNTHETIC: {facts['clips']} clips of {facts['subjects']} subjects",
        f"Label map `{facts['labels']}`, {facts['protocol']} in {facts['folds']} folds, preset "
        f"`{', '.join(presets)}`, mer-prep {facts['mer_prep']}. Synthetic expressions are pure "
        "action units on a still face. No corpus is that easy: these figures show that a model "
        "learns, and rank nothing.",
        _scores(facts),
        *([_elsewhere(missing)] if missing else []),
        "The interval is of 95 % over resampled subjects. The control is the same training with "
        "labels dealt anew among the clips; it must not beat chance (whoever guesses has a UF1 of "
        f"about 1/{len(facts['classes'])}), and may fall below it: the labels of whoever is left "
        "out are rarer among the rest. Training is the wall time of all "
        "folds, added up; `-` where it is not known. `leaderboard.json` beside this page is what "
        "the command wrote; `python -m mer_prep.docs_pages` makes the page from it.",
    ]
    if facts["against"]:
        parts.append(
            f"p is of McNemar's exact test of the accuracy against {facts['against']}, by Holm for "
            "all models together."
        )
    parts += [
        "## What is published",
        "Of licensed corpora, for the same label map and protocol; nothing above compares with it. "
        "A figure is only as good as the way its weights were chosen "
        "([how published numbers leak](../explanation/leaks.md)).",
        _published(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _elsewhere(names: Iterable[str]) -> str:
    pages = ", ".join(f"[{name}]({name}.md)" for name in names)
    return f"Not in this table: {pages}. What each gave alone on the same clips is on its page."


def _scores(facts: Mapping[str, Any]) -> str:
    head = ["model", "UF1", "95 % interval", "UAR", "Acc", "WF1", "parameters", "training"]
    head += ["p", "control UF1"]
    rows: list[tuple[str, ...]] = [tuple(_cells(one)) for one in facts["entries"]]
    largest = facts["largest_class"]
    scores = [f"{largest[score]:.3f}" for score in ("uar", "acc", "wf1")]
    name = f"always the largest class, {largest['class']}"
    rows.append((name, f"{largest['uf1']:.3f}", "", *scores, "", "", "", ""))
    return table(head, rows)


def _cells(one: Mapping[str, Any]) -> Iterable[str]:
    low, high = one["interval_95"]["uf1"]
    yield marked_name(one)
    yield f"{one['scores']['uf1']:.3f}"
    yield f"{low:.3f} to {high:.3f}"
    yield from (f"{one['scores'][score]:.3f}" for score in ("uar", "acc", "wf1"))
    yield f"{one['parameters']:,}"
    yield "-" if one["training_seconds"] is None else duration(one["training_seconds"])
    yield f"{one['against']['p_holm']:.3g}" if one["against"] else "-"
    control = one["control"]
    if control is None:
        yield "-"
        return
    low, high = control["interval_95"]["uf1"]
    yield f"{control['scores']['uf1']:.3f} ({low:.3f} to {high:.3f})"


def _published(facts: Mapping[str, Any]) -> str:
    rows: dict[tuple[str, ...], None] = {}
    for one in facts["entries"]:
        for found in one["published"]:
            if found["part"] == "all":
                values = [found["scores"].get(score) for score in ("uf1", "uar", "acc", "wf1")]
                cells = ["-" if value is None else f"{value:.3f}" for value in values]
                selected = _SELECTED[found["selected"]]
                rows[one["model"], *cells, selected, found["source"]] = None
    if not rows:
        return "Nothing."
    return table(("model", "UF1", "UAR", "Acc", "WF1", "weights chosen", "source"), rows)
