"""The protocols of the papers, and the folds that each makes of a set of labelled clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from mer_prep.checks import suggest
from mer_prep.errors import ConfigError, LeakError
from mer_prep.protocols.folds import Fold, Member
from mer_prep.protocols.leaks import check_folds, person


@dataclass(frozen=True)
class Protocol:
    """A protocol and its parameters.

    Parameters
    ----------
    name : str
        A key of `PROTOCOLS`.
    folds : int, optional
        Number of folds of ``k-fold``; 5 if left out.
    seed : int, optional
        Seed of ``k-fold``; 0 if left out.
    train, test : tuple of str
        Corpora that ``cross-corpus`` trains on and tests.

    Raises
    ------
    ConfigError
        For an unknown name, or a parameter that the protocol lacks or does not take.
    LeakError
        If a corpus is to be trained on and tested.
    """

    name: str = "loso"
    folds: int | None = None
    seed: int | None = None
    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        taken = self.card.parameters
        for option, value, words in (
            ("folds", self.folds, "number of folds"),
            ("seed", self.seed, "seed"),
        ):
            if value is not None and option not in taken:
                takers = [name for name, card in PROTOCOLS.items() if option in card.parameters]
                raise ConfigError(
                    f"Protocol '{self.name}' takes no {words}.",
                    hint=f"add --protocol {takers[0]}, or leave it out",
                )
        for option, corpora in (("train", self.train), ("test", self.test)):
            if bool(corpora) != (option in taken):
                verb = "needs the corpora to" if option in taken else "takes no corpora to"
                raise ConfigError(
                    f"Protocol '{self.name}' {verb} {option}.",
                    hint="e.g. --protocol cross-corpus --train-on casme2 --test-on smic",
                )
        both = sorted(set(self.train) & set(self.test))
        if both:
            raise LeakError(
                f"Corpus '{both[0]}' is trained on and tested.",
                why="cross-corpus scores are of clips of other corpora than those trained on",
                hint="test on a corpus that is not trained on",
            )
        if self.folds is not None and self.folds < 2:
            raise ConfigError(f"k-fold needs at least 2 folds, not {self.folds}.")
        if self.seed is not None and self.seed < 0:
            raise ConfigError(f"A seed is 0 or more, not {self.seed}.")

    @property
    def card(self) -> ProtocolCard:
        """What is known of the protocol."""
        return protocol_card(self.name)

    @property
    def slug(self) -> str:
        """The protocol and its parameters as a part of a file name: ``k-fold-5-seed0``."""
        if self.name == "k-fold":
            return f"{self.name}-{self.folds or 5}-seed{self.seed or 0}"
        if self.name == "cross-corpus":
            return f"{self.name}-{'+'.join(self.train)}-to-{'+'.join(self.test)}"
        return self.name

    def facts(self) -> dict[str, Any]:
        """Return the name and the parameters that the protocol takes, as plain values."""
        values: dict[str, Any] = {
            "folds": self.folds or 5,
            "seed": self.seed or 0,
            "train": list(self.train),
            "test": list(self.test),
        }
        return {"name": self.name} | {key: values[key] for key in self.card.parameters}


@dataclass(frozen=True)
class ProtocolCard:
    """What a protocol is.

    Parameters
    ----------
    title, about, scores, counts, source, caveat : str
        What it does, what is scored, numbers of folds to expect, where it is from, what to mind.
    split : callable
        Makes the folds of members sorted by clip id.
    parameters : tuple of str
        Parameters of `Protocol` that it takes.
    subjects_may_recur : bool
        Whether a person may be in training and test of one fold.
    tests_all : bool
        Whether every clip is tested.
    """

    title: str
    about: str
    scores: str
    counts: str
    source: str
    caveat: str
    split: Callable[[Protocol, Sequence[Member]], list[Fold]]
    parameters: tuple[str, ...] = ()
    subjects_may_recur: bool = False
    tests_all: bool = True


def protocol_card(name: str) -> ProtocolCard:
    """Return what is known of a protocol; an unknown name is a `ConfigError` with a suggestion."""
    if name not in PROTOCOLS:
        raise ConfigError(
            f"There is no protocol '{name}'.{suggest(name, PROTOCOLS)}",
            hint=f"protocols: {', '.join(PROTOCOLS)}",
        )
    return PROTOCOLS[name]


def make_folds(protocol: Protocol, members: Sequence[Member]) -> list[Fold]:
    """Return the folds of a protocol, proved free of leaks.

    Parameters
    ----------
    protocol : Protocol
        The protocol.
    members : sequence of Member
        All labelled clips, in any order: the folds do not depend on it.

    Raises
    ------
    ConfigError
        If the clips do not admit the protocol: too few subjects, or a corpus that is not there.
    LeakError
        If a clip, its copy or a person would be on both sides.
    """
    ordered = sorted(members, key=lambda one: one.clip_id)
    folds = protocol.card.split(protocol, ordered)
    check_protocol(protocol, folds, ordered)
    return folds


def check_protocol(protocol: Protocol, folds: Sequence[Fold], members: Sequence[Member]) -> None:
    """Raise an error if folds leak, or do not test what the protocol tests; see `check_folds`."""
    card = protocol.card
    check_folds(
        folds,
        members,
        subjects_may_recur=card.subjects_may_recur,
        tests_all=card.tests_all,
    )


def _by_group(members: Sequence[Member], group: Callable[[Member], str]) -> list[Fold]:
    """Return one fold per group, sorted by its name, that tests the group and trains the rest."""
    ids = [one.clip_id for one in members]
    places: dict[str, list[int]] = {}
    for place, one in enumerate(members):
        places.setdefault(group(one), []).append(place)
    return [
        Fold(name, _without(ids, tested), tuple(ids[place] for place in tested))
        for name, tested in sorted(places.items())
    ]


def _without(ids: list[str], places: Sequence[int]) -> tuple[str, ...]:
    """Return the ids but for those at some places, which ascend.

    They are copied stretch by stretch, since there are as many as clips times subjects.
    """
    starts = [0, *(place + 1 for place in places)]
    stretches = zip(starts, [*places, len(ids)], strict=True)
    return tuple(chain.from_iterable(ids[start:stop] for start, stop in stretches))


def _leave_one_subject_out(protocol: Protocol, members: Sequence[Member]) -> list[Fold]:
    if len({one.subject for one in members}) < 2:
        raise ConfigError(
            "Leave-one-subject-out needs two subjects or more.",
            hint="import more subjects; --protocol lovo splits the clips of one",
        )
    return _by_group(members, lambda one: one.subject)


def _composite(protocol: Protocol, members: Sequence[Member]) -> list[Fold]:
    corpora = sorted({one.corpus for one in members})
    if len(corpora) < 2:
        raise ConfigError(
            f"Composite evaluation needs two corpora or more; there is {corpora[0]} only.",
            hint="import another corpus, or use --protocol loso",
        )
    return _leave_one_subject_out(protocol, members)


def _leave_one_video_out(protocol: Protocol, members: Sequence[Member]) -> list[Fold]:
    return _by_group(members, lambda one: one.clip_id)


def _leave_one_corpus_out(protocol: Protocol, members: Sequence[Member]) -> list[Fold]:
    if len({one.corpus for one in members}) < 2:
        raise ConfigError(
            "Leave-one-corpus-out needs two corpora or more.", hint="import another corpus"
        )
    return _by_group(members, lambda one: one.corpus)


def _cross_corpus(protocol: Protocol, members: Sequence[Member]) -> list[Fold]:
    known = sorted({one.corpus for one in members})
    for corpus in (*protocol.train, *protocol.test):
        if corpus not in known:
            raise ConfigError(
                f"No labelled clip is of corpus '{corpus}'.{suggest(corpus, known)}",
                hint=f"corpora here: {', '.join(known)}",
            )
    sides = [
        tuple(one.clip_id for one in members if one.corpus in corpora)
        for corpora in (protocol.train, protocol.test)
    ]
    return [Fold(f"{'+'.join(protocol.train)} to {'+'.join(protocol.test)}", sides[0], sides[1])]


def _k_fold(protocol: Protocol, members: Sequence[Member]) -> list[Fold]:
    """Deal subjects to folds, those with most clips first, each where classes are fewest.

    Greedy: the fold is taken whose classes, with the subject in it, are the nearest to an equal
    share of every class. Equally large subjects are dealt in an order that the seed decides.
    """
    facts = protocol.facts()
    count = facts["folds"]
    people: dict[str, Counter[int]] = {}
    for one in members:
        people.setdefault(person(one), Counter())[one.label] += 1
    if len(people) < count:
        raise ConfigError(
            f"{count} folds need as many subjects; there are {len(people)}.", hint="fewer --folds"
        )
    classes = sorted({one.label for one in members})
    sizes = {who: np.array([counts[one] for one in classes]) for who, counts in people.items()}
    share = sum(sizes.values()) / count
    names = sorted(sizes)
    order = np.random.default_rng(facts["seed"]).permutation(len(names))
    dealt = sorted((names[one] for one in order), key=lambda who: -int(sizes[who].sum()))
    filled = np.zeros((count, len(classes)))
    home: dict[str, int] = {}
    for who in dealt:
        # What the subject adds to the squared shares of a fold's classes: least for empty folds,
        # so that none stays empty.
        excess = ((2 * filled + sizes[who]) * sizes[who] / share**2).sum(axis=1)
        home[who] = int(np.lexsort((filled.sum(axis=1), excess))[0])
        filled[home[who]] += sizes[who]
    digits = len(str(count))
    return _by_group(members, lambda one: f"{home[person(one)] + 1:0{digits}d}")


_POOLED = "One confusion matrix over the predictions of all folds; never a mean over folds."

PROTOCOLS: Mapping[str, ProtocolCard] = {
    "loso": ProtocolCard(
        "Leave-one-subject-out",
        "One fold per subject that has a labelled clip: it is tested, all others train. Subjects "
        "are named across corpora, so that equal numbers of two corpora stay two people.",
        _POOLED,
        "One fold a subject: 26 for casme2-5, 27 for samm-5, 16 for smic-3, 68 for megc2019-3.",
        "The usual protocol of single corpora; e.g. Yan et al., CASME II, PLOS ONE 9(1), 2014, "
        "doi:10.1371/journal.pone.0086041",
        "Folds of subjects without a labelled clip do not exist; published lists that hold such "
        "subjects score nothing in them.",
        _leave_one_subject_out,
    ),
    "cde": ProtocolCard(
        "Composite database evaluation",
        "Leave-one-subject-out over the clips of several corpora together; with the label map "
        "megc2019-3 442 clips and 68 folds.",
        _POOLED + " The scores of a corpus are of its part of the same predictions.",
        "442 clips, 68 folds with megc2019-3: 24 of CASME II, 28 of SAMM, 16 of SMIC.",
        "See et al., MEGC 2019, FG 2019, doi:10.1109/FG.2019.8756611",
        "A corpus's part is not comparable with training on that corpus alone.",
        _composite,
    ),
    "lovo": ProtocolCard(
        "Leave-one-video-out",
        "One fold per clip.",
        "Accuracy over all clips; the other scores are given as well.",
        "One fold a clip: 448 for survey-4, 144 for survey-9, where the survey reports 47.32 % and "
        "26.39 %, 212 and 38 clips.",
        "Used with small corpora; e.g. the baseline of Gong, An, Elfiky: Deep learning-based "
        "microexpression recognition: a survey, Neural Computing and Applications 34, 2022, "
        "doi:10.1007/s00521-022-07157-w",
        "The subject of the tested clip is in training: identity leaks, and scores are not "
        "comparable with leave-one-subject-out. A warning says so wherever it is used.",
        _leave_one_video_out,
        subjects_may_recur=True,
    ),
    "k-fold": ProtocolCard(
        "k-fold by subject",
        "Subjects are dealt to k folds so that classes are spread as evenly as whole subjects "
        "allow. A seed orders subjects of equal size.",
        _POOLED,
        "As many folds as --folds says, 5 by default.",
        "A cheaper stand-in for leave-one-subject-out",
        "Scores depend on the seed: report it, or freeze the folds in a file and share that.",
        _k_fold,
        parameters=("folds", "seed"),
    ),
    "cross-corpus": ProtocolCard(
        "Cross-corpus (holdout-database evaluation)",
        "One fold: trained on some corpora, tested on all clips of others.",
        "One confusion matrix over the tested corpora.",
        "One fold. CASME II to SMIC with megc2019-3: 145 clips train, 164 are tested; objective-5: "
        "185 clips of CASME II and 68 of SAMM, either way.",
        "Yap et al., MEGC 2018, FG 2018, doi:10.1109/FG.2018.00106; MOL, Table VII",
        "Label maps must mean the same in both corpora: SMIC's classes are self-reported "
        "valence. SAMM and SAMM Long Videos show the same people and cannot be crossed.",
        _cross_corpus,
        parameters=("train", "test"),
        tests_all=False,
    ),
    "leave-one-corpus-out": ProtocolCard(
        "Leave-one-corpus-out",
        "One fold per corpus: it is tested, all others train.",
        _POOLED + " The scores of a corpus are of the fold that tests it.",
        "One fold a corpus: 3 with megc2019-3.",
        "Varanka et al., Data Leakage and Evaluation Issues in Micro-Expression Analysis, IEEE "
        "Transactions on Affective Computing 2024, arXiv:2211.11425",
        "Label maps must mean the same in all corpora.",
        _leave_one_corpus_out,
    ),
}
