"""Writes pages of ``docs`` that are made from data and code: ``python -m mer_prep.docs_pages``.

Nothing on these pages is written by hand; a test compares them with what is made here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mer_prep.errors import ConfigError
from mer_prep.label_map import CorpusLabels, Expected, LabelMap
from mer_prep.labels import label_map_names, read_label_map
from mer_prep.protocols import PROTOCOLS, ProtocolCard
from mer_prep.resources import data_folder
from mer_prep.sources.facts import corpus_facts

#: Puts all pages of a folder into the contents at the side.
_MEMBERS = "```{toctree}\n:hidden:\n:glob:\n\n*\n```"

_MADE = "<!-- Made from manifests/labels by `python -m mer_prep.docs_pages`; edit it there. -->"


def label_pages() -> dict[str, str]:
    """Return the Markdown of all pages by file name, the list of the maps among them."""
    maps = [read_label_map(name) for name in label_map_names()]
    pages = {f"{one.name}.md": label_page(one) for one in maps}
    return {"README.md": label_index(maps), **pages}


def label_index(maps: Iterable[LabelMap]) -> str:
    """Return the page that lists the label maps."""
    rows = [
        (
            f"[{one.name}]({one.name}.md)",
            one.title,
            str(len(one.classes)),
            _size(one),
            _or_unknown(total.subjects if (total := one.total()) else None),
        )
        for one in maps
    ]
    return _page(
        "# Label maps",
        _MADE,
        "A label map says which class every clip of a corpus gets, which clips are left out and "
        "why, and what must come out. `mer-prep composite --labels NAME` applies one and compares "
        "the counts, and where a list is published its digest, with these.",
        table(("label map", "title", "classes", "clips", "subjects"), rows),
        _MEMBERS,
        "Counts are those of the source. `-` stands for what is not published. Of a balanced map "
        "the clips drawn stand before those there are to draw from.",
    )


def label_page(labels: LabelMap) -> str:
    """Return the page of one label map: source, classes, emotions, counts, what to mind."""
    return _page(
        f"# {labels.name}: {labels.title}",
        _MADE,
        f"Source: {labels.source}." + (f" {labels.reference}." if labels.reference else ""),
        "```sh\n" + "\n".join(_commands(labels)) + "\n```",
        "## Classes",
        _classes(labels),
        *_notes(labels),
        *(
            text
            for corpus, part in labels.corpora.items()
            for text in _corpus(corpus, part, labels.classes)
        ),
    )


def _commands(labels: LabelMap) -> Iterable[str]:
    for corpus, part in labels.corpora.items():
        choices = [f" --{name} {value}" for name, value in part.options.items()]
        yield f"mer-prep import {corpus} FOLDER{''.join(choices)}"
    seed = " --seed 0" if labels.balance else ""
    yield f"mer-prep composite {' '.join(labels.corpora)} --labels {labels.name}{seed}"


def _classes(labels: LabelMap) -> str:
    total, drawn = labels.total(), labels.drawn_per_class()
    head: tuple[str, ...] = ("label", "class", "clips")
    rows: list[tuple[str, ...]] = []
    for label, name in enumerate(labels.classes):
        rows.append((str(label), name, str(total.classes[name]) if total else "-"))
    rows.append(("", "all", str(total.clips) if total else "-"))
    if drawn is not None:
        head = (*head, "drawn")
        sizes = [drawn] * len(labels.classes) + [drawn * len(labels.classes)]
        rows = [(*row, str(size)) for row, size in zip(rows, sizes, strict=True)]
    return table(head, rows)


def _notes(labels: LabelMap) -> Iterable[str]:
    total = labels.total()
    if total and total.subjects is not None:
        yield f"{total.subjects} subjects."
    if labels.balance:
        yield (
            "The map is balanced: of every class as many clips are drawn as the smallest has. "
            "Which, `--seed` decides: the clips of a class are ordered by the SHA-256 of "
            "`<seed>:<clip id>` and the first are taken, so that one seed gives the same clips "
            "whatever the order of the import. `composite.json` holds the seed and what was drawn "
            "from; `mer-prep train` takes the seed as `--draw-seed`."
        )
    if total and total.sha256:
        yield f"SHA-256 of the clip list: `{total.sha256}`"
    if labels.paper:
        yield f"The paper scored {labels.paper.clips} clips: {labels.paper.why}."
    if labels.note:
        yield "## What to mind"
        yield labels.note


def _corpus(corpus: str, part: CorpusLabels, classes: Sequence[str]) -> Iterable[str]:
    yield f"## {corpus_facts(corpus).title}"
    yield from _conditions(corpus, part)
    if part.note:
        yield part.note
    made = [name for name in classes if part.sources(name)]
    columns = [_column(one) for one in part.expected]
    rows = [
        (name, ", ".join(part.sources(name)), *(str(one.classes[name]) for one in part.expected))
        for name in made
    ]
    rows.append(("all", "", *(str(one.clips) for one in part.expected)))
    if any(one.subjects is not None for one in part.expected):
        rows.append(("subjects", "", *(_or_unknown(one.subjects) for one in part.expected)))
    yield table(("class", "made of", *columns), rows)
    for one in part.expected:
        if one.sha256:
            yield f"SHA-256 of the clip list: `{one.sha256}`"
    if part.drop:
        yield "Left out by name:"
        yield "\n".join(f"* `{drop}`: {drop.reason}" for drop in part.drop)


def _conditions(corpus: str, part: CorpusLabels) -> Iterable[str]:
    wanted = []
    versions = corpus_facts(corpus).versions.values()
    has_macro = any("macro" in (version.expression_types or {}) for version in versions)
    if part.variant:
        wanted.append(f"the form `{part.variant}`")
    wanted += [f"imported with `--{name} {value}`" for name, value in part.options.items()]
    if has_macro and part.expression_type != "all":
        wanted.append(f"{part.expression_type}-expressions only")
    if wanted:
        yield f"Wanted: {', '.join(wanted)}."


def _column(expected: Expected) -> str:
    return f"version {' or '.join(expected.versions)}" if expected.versions else "clips"


def _size(labels: LabelMap) -> str:
    total, drawn = labels.total(), labels.drawn_per_class()
    if total is None:
        return "-"
    return str(total.clips) if drawn is None else f"{drawn * len(labels.classes)} of {total.clips}"


def _or_unknown(count: int | None) -> str:
    return "-" if count is None else str(count)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _page(*parts: str) -> str:
    return "\n\n".join(parts) + "\n"


_MADE_PROTOCOL = (
    "<!-- Made from mer_prep/protocols by `python -m mer_prep.docs_pages`; edit it there. -->"
)

#: How the file of folds is read without mer-prep; a test runs it.
FOLDS_EXAMPLE = """\
import json
import pathlib

facts = json.loads(pathlib.Path("folds.json").read_text(encoding="utf-8"))
for fold in facts["folds"]:
    test, train = set(fold["test"]), fold["train"]
    train = sorted(set(facts["clips"]) - test) if train == "others" else train
"""

_FOLDS_KEYS = (
    ("`schema`", "2, the form of the file"),
    ("`protocol`", "name and parameters of the protocol: `folds`, `seed`, `train`, `test`"),
    ("`labels`", "name of the label map"),
    ("`clip_list`", "SHA-256 of the clips and their labels; `composite.json` has it as well"),
    ("`sha256`", "SHA-256 over protocol, labels, clip list and folds: a changed file is refused"),
    ("`clips`", "ids of all clips in any fold, sorted"),
    (
        "`folds`",
        "for every fold its `name`, the ids that it tests (`test`), and those that train it "
        '(`train`): a list, or `"others"` for all clips of the file that it does not test',
    ),
)

#: Values for the commands shown.
_EXAMPLES = {
    "folds": "--folds 5",
    "seed": "--fold-seed 0",
    "train": "--train-on casme2",
    "test": "--test-on smic",
}


def protocol_pages() -> dict[str, str]:
    """Return the Markdown of the protocols' pages by file name, the list among them."""
    rows = [
        (f"[{name}]({name}.md)", card.title, "yes" if card.subjects_may_recur else "no")
        for name, card in PROTOCOLS.items()
    ]
    index = _page(
        "# Protocols",
        _MADE_PROTOCOL,
        "A protocol says which clips train and which are tested. `mer-prep composite --protocol "
        "NAME` splits the clips and freezes the folds in `folds.json` with a digest; `mer-prep "
        "train` takes a protocol, or such a file by `--folds-file`, and refuses one that was "
        "changed.",
        table(("protocol", "title", "a person on both sides"), rows),
        "Whatever the protocol, folds are refused (`LeakError`) if a clip, an augmented copy of it "
        "(by its name: `EP02_01f_flip`) or the same frames under another name are in training and "
        "test, and, but for lovo, if a person is: `sub01`, `SUB1` and `1` of one corpus are one "
        "person, and the people of SAMM Long Videos are those of SAMM. Every clip is tested once "
        "at most.",
        "## folds.json",
        "The folds of `mer-prep composite`, in the workspace or where `--out` says; `mer-prep "
        "export --composite` puts a copy beside the files, and into its `index.csv` the fold that "
        "tests a clip.",
        table(("key", "what it holds"), _FOLDS_KEYS),
        "To train outside of mer-prep on the same folds:",
        f"```python\n{FOLDS_EXAMPLE}```",
        _MEMBERS,
    )
    return {"README.md": index} | {
        f"{name}.md": _protocol_page(name, card) for name, card in PROTOCOLS.items()
    }


def _protocol_page(name: str, card: ProtocolCard) -> str:
    options = "".join(f" {_EXAMPLES[one]}" for one in card.parameters)
    return _page(
        f"# {name}: {card.title}",
        _MADE_PROTOCOL,
        f"Source: {card.source}.",
        f"```sh\nmer-prep composite --protocol {name}{options}\n"
        f"mer-prep train --model mol --protocol {name}{options}\n```",
        card.about,
        f"**Scores.** {card.scores}",
        f"**Folds.** {card.counts}",
        "## What to mind",
        card.caveat,
    )


def write_pages(folder: Path, pages: Mapping[str, str], *, only: bool = True) -> list[Path]:
    """Write pages, by file name, into a folder, and remove others if it is theirs only.

    Returns
    -------
    list of Path
        The pages.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.md") if only else ():
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in pages]


def main() -> None:
    """Write the pages of the checkout that the package lies in."""
    root = data_folder("manifests").parent
    if not (root / "pyproject.toml").is_file():
        raise ConfigError("The pages belong to a checkout, and this is an installed package.")
    from mer_prep.docs_leaderboard import leaderboard_pages
    from mer_prep.docs_reference import reference_pages

    made = {"labels": label_pages(), "protocols": protocol_pages(), "reference": reference_pages()}
    made["models"] = leaderboard_pages(root / "docs" / "models")
    for name, texts in made.items():
        only = name not in ("reference", "models")
        pages = write_pages(root / "docs" / name, texts, only=only)
        sys.stdout.write(f"{len(pages)} pages in {pages[0].parent}\n")


if __name__ == "__main__":
    main()
