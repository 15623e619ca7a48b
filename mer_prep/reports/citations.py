"""The paragraph a paper needs to say what a run did, and what it has to cite."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mer_prep.config import canonical_json
from mer_prep.labels import label_map_names, read_label_map
from mer_prep.resources import data_names
from mer_prep.sources.facts import corpus_facts
from mer_prep.training.cards import model_card

#: Scores as they are named in papers.
TITLES = {"uf1": "UF1", "uar": "UAR", "acc": "accuracy", "wf1": "WF1"}

_SELECTIONS = {
    "last": "with the weights of the last step; nothing was chosen on the test subject",
    "inner": "with the step that did best on training subjects held out for that choice",
    "LEAKY": "with the step that did best on the test subject itself (LEAKY)",
}

_PROTOCOLS = {
    "loso": "leave-one-subject-out",
    "cde": "composite leave-one-subject-out",
    "lovo": "leave-one-video-out",
    "k-fold": "subject-independent k-fold cross-validation",
}


@dataclass(frozen=True)
class Citation:
    """A work to be cited.

    Parameters
    ----------
    key : str
        Its key.
    text : str
        The work, in words.
    doi : str
        Its DOI, if it is known.
    """

    key: str
    text: str
    doi: str = ""

    def bibtex(self) -> str:
        """Return the entry of a BibTeX file."""
        doi = f",\n  doi = {{{self.doi}}}" if self.doi else ""
        return f"@misc{{{self.key},\n  note = {{{self.text}}}{doi}\n}}"


def citations(results: Mapping[str, Any]) -> list[Citation]:
    """Return what a run rests on: the toolkit, the model, the labels, the corpora.

    Parameters
    ----------
    results : mapping
        What ``results.json`` says.
    """
    found = [
        Citation(
            "mer-prep",
            f"The mer-prep developers. mer-prep, version {results['mer_prep']}. Software.",
        ),
        Citation(results["model"], _sentence(model_card(results["model"]).reference)),
    ]
    if results["labels"] in label_map_names():
        labels = read_label_map(results["labels"])
        of = f"{labels.source}. {labels.reference}" if labels.reference else labels.source
        found.append(Citation(labels.name, _sentence(of)))
    for corpus in _corpora(results):
        if corpus in data_names("manifests", "corpora"):
            facts = corpus_facts(corpus)
            found.append(Citation(corpus, _sentence(facts.reference), facts.doi))
    return found


def _corpora(results: Mapping[str, Any]) -> list[str]:
    return [name for name in results["passport"]["clip_lists"] if name != "all"]


def _sentence(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().rstrip(".") + "."


def methods_paragraph(results: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    """Return what a paper must say of a run, as one paragraph; works are cited by ``[key]``.

    Parameters
    ----------
    results : mapping
        What ``results.json`` says.
    recipe : mapping
        What ``recipe.json`` says: the stages that made the inputs. May be empty.
    """
    return " ".join(
        text
        for text in (
            *_marks(results),
            _clips(results),
            _inputs(recipe),
            _training(results),
            _testing(results),
            _scores(results),
        )
        if text
    )


def _marks(results: Mapping[str, Any]) -> Iterable[str]:
    if results["synthetic"]:
        yield "SYNTHETIC clips: these are no scores of a corpus."
    if results["shuffled_labels"]:
        yield "The labels were shuffled, as a control."


def _clips(results: Mapping[str, Any]) -> str:
    versions = results["annotations"]
    parts = [
        f"{corpus} [{corpus}]"
        + (f", annotation {versions[corpus]}" if corpus in versions else "")
        + (f", {results['scores'][corpus]['clips']} clips" if corpus in results["scores"] else "")
        for corpus in _corpora(results)
    ]
    digest = results["passport"]["clip_lists"].get("all")
    listed = f"; SHA-256 of the clip list {digest}" if digest else ""
    draw = f", drawn with seed {results['draw_seed']}" if results["draw_seed"] is not None else ""
    return (
        f"{results['clips']} clips of {results['subjects']} subjects ({'; '.join(parts)}) were "
        f"labelled in {len(results['classes'])} classes ({', '.join(results['classes'])}) by the "
        f"label map {results['labels']} [{results['labels']}]{draw}{listed}."
    )


def _inputs(recipe: Mapping[str, Any]) -> str:
    stages = [
        f"{name} (version {one['version']}, {canonical_json(one['params'])})"
        for name, one in recipe.get("stages", {}).items()
    ]
    return f"They were prepared with mer-prep [mer-prep]: {'; '.join(stages)}." if stages else ""


def _training(results: Mapping[str, Any]) -> str:
    training = results["training"]
    init = " from pre-trained weights" if results["init"] else ""
    return (
        f"{model_card(results['model']).title.partition(':')[0]} [{results['model']}] was trained "
        f"in mer-prep {results['mer_prep']} (preset {results['preset']}, seed {results['seed']})"
        f"{init} for {training['pre_steps'] + training['steps']} steps of {training['batch']} "
        f"samples by {training['optimiser']} at a learning rate of {training['learning_rate']:g}."
    )


def _testing(results: Mapping[str, Any]) -> str:
    protocol = _PROTOCOLS.get(results["protocol"], results["protocol"])
    count = len(results["folds"])
    return (
        f"It was tested by {protocol} in {count} fold{'' if count == 1 else 's'} (SHA-256 "
        f"{results['passport']['folds']}), {_SELECTIONS[results['selection']]}."
    )


def _scores(results: Mapping[str, Any]) -> str:
    found = results["scores"]["all"]
    scores = ", ".join(
        f"{title} {found[name]:.3f} ({found['interval_95'][name][0]:.3f} to "
        f"{found['interval_95'][name][1]:.3f})"
        for name, title in TITLES.items()
    )
    return (
        f"From one confusion matrix over all folds: {scores}; in brackets 95 % intervals over "
        "resampled subjects."
    )
