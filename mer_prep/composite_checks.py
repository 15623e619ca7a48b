"""What of a label map does not fit the corpora that it is applied to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from mer_prep.checks import suggest
from mer_prep.errors import ManifestError
from mer_prep.label_map import LabelMap
from mer_prep.manifest import Clip, Finding, ImportRecord
from mer_prep.resources import data_names
from mer_prep.workspace import Workspace


def unknown_corpora(labels: LabelMap, workspace: Workspace) -> Iterable[Finding]:
    """Yield a warning for every corpus of a map that no importer reads and that is not here."""
    known = [*workspace.corpora(), *data_names("manifests", "corpora"), "clips"]
    for corpus in labels.corpora:
        if corpus not in known:
            message = f"label map '{labels.name}' names corpus '{corpus}', which no importer reads "
            message += f"and this workspace does not hold.{suggest(corpus, known)}"
            yield Finding("warning", "corpus-unknown", message)


def idle_drops(
    labels: LabelMap, clips: Sequence[Clip], corpora: Iterable[str]
) -> Iterable[Finding]:
    """Yield a warning for every clip that a map of one's own leaves out and that is not there.

    Where a map states counts these are compared, and what it leaves out depends on the version of
    the annotation.
    """
    for corpus in sorted(corpora):
        part = labels.corpora[corpus]
        own = [clip for clip in clips if clip.corpus == corpus]
        for drop in part.drop if not part.expected else ():
            if not any(drop.concerns(clip) for clip in own):
                message = f"{corpus}: '{drop}', which the label map leaves out, is no clip; name "
                message += "subject and clip as `mer-prep inspect` does"
                yield Finding("warning", "drop-idle", message)


def check_corpus(clip: Clip, labels: LabelMap) -> None:
    """Raise `ManifestError` if a map does not know a clip's corpus, or wants another form of it."""
    part = labels.corpora.get(clip.corpus)
    if part is None:
        raise ManifestError(
            f"Label map '{labels.name}' does not know corpus '{clip.corpus}'.",
            hint=f"it is for {', '.join(labels.corpora)}; name the corpora to combine, or give a "
            "label map of your own (--labels FILE.toml; the README shows one)",
        )
    variant = clip.variant or ""
    if part.variant is not None and not _words(part.variant) <= _words(variant):
        raise ManifestError(
            f"Label map '{labels.name}' is for the {part.variant} form of {clip.corpus}; "
            f"'{variant}' is imported.",
            where=clip.clip_id,
            hint=f"mer-prep import {clip.corpus} FOLDER --variant {part.variant}",
        )


def _words(variant: str) -> set[str]:
    """Return the words of a variant: ``part-a`` is a form of ``part-a-clips``."""
    return set(re.split(r"[-_ /]", variant.casefold()))


def check_imports(labels: LabelMap, records: Mapping[str, ImportRecord]) -> None:
    """Raise `ManifestError` if a corpus was imported with other choices than a map is for."""
    for corpus, record in records.items():
        part = labels.corpora.get(corpus)
        for name, value in part.options.items() if part else ():
            if name not in record.options:
                raise ManifestError(
                    f"Label map '{labels.name}' wants {corpus} imported with {name} = {value}, and "
                    f"its import leaves no choice of '{name}'.{suggest(name, record.options)}",
                    where=record.root,
                    hint=f"choices of {corpus}: {', '.join(record.options) or 'none'}",
                )
            if record.options[name] != value:
                raise ManifestError(
                    f"Label map '{labels.name}' is for {corpus} imported with {name} = {value}; "
                    f"it was imported with {record.options[name]}.",
                    where=record.root,
                    why="its classes are of other emotions than those imported",
                    hint=f"mer-prep import {corpus} FOLDER --{name} {value}",
                )
