"""Splits, statistics and weights that know whom they are tested on; and classes nobody shows."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from mer_prep.errors import ConfigError, LeakError
from mer_prep.metrics import score
from mer_prep.protocols import Fold, Member, check_folds
from tests.faults.catalogue import Tries, fault, instead, nothing, refused

_MODULE = "mer_prep.protocols.leaks"


def _member(subject: str, clip: str, **changes: Any) -> Member:
    corpus = subject.partition("/")[0]
    return Member(f"{subject}/{clip}", corpus, subject, 0, **changes)


def _split(one: Member, other: Member) -> None:
    """Check a fold that trains on one clip and tests another."""
    more = _member("smic/s99", "x")
    check_folds([Fold("fold", (one.clip_id, more.clip_id), (other.clip_id,))], [one, other, more])


#: Spellings of one person.
_SPELLINGS = ("sub01", "sub1", "1", "01", "001", "s1", "S01", "Sub01", "subject 1", "sub_01")
_SPELLINGS += ("subj-1", "sp1", "spNO.1".replace("NO.", "no"), " sub01 ", "SUB001")

#: What scripts add to the names of augmented clips.
_COPIES = ("flip", "hflip", "flipped", "mirror", "mirrored", "aug", "augmented", "copy", "rot")
_COPIES += ("rotated", "noise", "noisy", "mag", "blur", "blurred", "crop", "shift", "bright")


def _leaks() -> Iterator[tuple[Member, Member, str]]:
    """Yield clips that must not be on both sides of a fold, and what is said."""
    for one, other in itertools.permutations(_SPELLINGS, 2):
        yield _member(f"casme2/{one}", "a"), _member(f"casme2/{other}", "b"), "the same person"
    for spelling in _SPELLINGS:
        pair = (_member("samm/001", "a"), _member(f"samm_lv/{spelling}", "b"))
        yield *pair, "the same person"
        yield *pair[::-1], "the same person"
        named = _member(f"mine/{spelling}", "b", population="samm")
        yield pair[0], named, "the same person"
    for word, mark in itertools.product(_COPIES, ("_", "-", " ", ".")):
        for number in ("", "2", "(1)"):
            copy = _member("samm/9", f"EP01{mark}{word}{number}")
            yield _member("samm/009", "EP01"), copy, "augmented copy"
    # The same frames under the name of somebody else.
    spans = [((1, 9), (1, 9)), ((1, 9), (9, 20)), ((5, 6), (1, 20)), ((None, None), (1, 5))]
    for (first, last), (begin, end) in spans:
        one = _member("casme2/sub02", "a", source_digest="d", onset=first, offset=last)
        yield (
            one,
            _member("smic/s7", "b", source_digest="d", onset=begin, offset=end),
            "same frames",
        )


@fault(
    34,
    "a person, a clip, its frames or its augmented copy on both sides of a fold",
    without={
        "one name of a person": instead(f"{_MODULE}.person_name", lambda name: name),
        "people of two corpora": instead(f"{_MODULE}.SAME_PEOPLE", {}),
        "the names of copies": instead(f"{_MODULE}.original", lambda member: member.clip_id),
        "the comparison of the sides": instead(f"{_MODULE}._check_sides", nothing),
    },
)
def leaking_folds(tries: Tries) -> None:
    _split(_member("casme2/sub01", "a"), _member("casme2/sub02", "a"))
    for one, other, words in tries.of(_leaks(), quick=600):
        with refused(
            LeakError, "fold", words if words != "augmented copy" else "training and test"
        ):
            _split(one, other)
        if words == "augmented copy":
            # Where people may be on both sides, a copy still may not.
            folds = [Fold("fold", (one.clip_id,), (other.clip_id,))]
            with refused(LeakError, words):
                check_folds(folds, [one, other], subjects_may_recur=True)


@fault(
    34,
    "folds with an empty side, a foreign clip, or one that is tested twice or never",
    without={"the look at the names": instead(f"{_MODULE}._check_names", nothing)},
)
def foreign_folds(tries: Tries) -> None:
    clips = [_member(f"smic/s{number}", "c") for number in range(4)]
    ids = [one.clip_id for one in clips]
    wrong: list[tuple[type[LeakError] | type[ConfigError], list[Fold]]] = [
        (LeakError, [Fold("x", (), (ids[0],))]),
        (LeakError, [Fold("x", (ids[0],), ())]),
        (LeakError, [Fold("x", (ids[0],), ("smic/s9/c",))]),
        (LeakError, [Fold("x", ("smic/s9/c",), (ids[0],))]),
        (LeakError, [Fold("x", (ids[0],), (ids[0],))]),
        (LeakError, [Fold("x", (ids[0],), (ids[1],)), Fold("y", (ids[2],), (ids[1],))]),
        (ConfigError, [Fold("x", (ids[0],), (ids[1],)), Fold("x", (ids[1],), (ids[0],))]),
        (ConfigError, [Fold("x", (ids[0],), (ids[1],))]),
    ]
    for kind, folds in tries.of(wrong):
        with refused(kind):
            check_folds(folds, clips, tests_all=True)


@fault(
    34,
    "normalisation that was taken from a tested clip",
    without={
        "the clips that statistics carry": instead(
            "mer_prep.dataset.Statistics.check_apart", nothing
        )
    },
    needs=("torch", "safetensors"),
)
def leaking_statistics(tries: Tries) -> None:
    from mer_prep.dataset import ClipStore
    from mer_prep.training.fit import Machine, View, predict
    from tests import bars

    store, study = ClipStore(bars.CLIPS), bars.study(architecture=bars.SMALLEST)
    model = study.method.build(3)
    names = [one.clip_id for one in bars.CLIPS]
    for size in tries.of(range(1, len(names) + 1), quick=3):
        view = View(64, 1, store.statistics(names[:size]))
        with refused(LeakError, names[0]):
            predict(model, study.method, store, [*names[size:], names[0]], view, Machine())


@fault(
    34,
    "weights to start from that have seen the people or the frames that are tested",
    without={
        "one name of a person": instead(
            "mer_prep.training.initial.person_of", lambda subject: subject
        ),
        "the comparison of the sources": instead(
            "mer_prep.training.initial._short", lambda digest: str(id(object()))
        ),
    },
    needs=("torch", "safetensors"),
)
def seen_before(tries: Tries) -> None:
    from pathlib import Path

    from mer_prep.training.initial import check_unseen

    seen = {"corpora": ["samm"], "subjects": ["samm/006"], "sources": ["a" * 16]}
    check_unseen(Path("init"), seen, {"samm/007/c": ("samm/007", "b" * 64)})
    check_unseen(Path("init"), seen, {"smic/s6/c": ("smic/s6", "b" * 64)})
    ways = [
        (subject, "b" * 64)
        for corpus in ("samm", "samm_lv")
        for subject in (f"{corpus}/006", f"{corpus}/6", f"{corpus}/s06", f"{corpus}/Sub 6")
    ]
    ways += [("smic/s1", "a" * 64), ("samm/9", "a" * 16 + "c" * 48)]
    for subject, source in tries.of(ways):
        with refused(LeakError, "init", "tested here"):
            check_unseen(Path("init"), seen, {f"{subject}/c": (subject, source)})


@fault(
    34,
    "frozen folds that were edited",
    without={"the digest of the folds": instead("mer_prep.protocols.frozen.digest", lambda *_: "")},
)
def edited_folds(tries: Tries) -> None:
    import json

    from mer_prep.protocols import FrozenFolds, Protocol, read_folds, write_folds

    clips = tuple(f"smic/s{number}/c" for number in range(4))
    folds = tuple(Fold(f"f{one}", tuple(x for x in clips if x != one), (one,)) for one in clips)
    path = tries.fresh() / "folds.json"
    write_folds(path, FrozenFolds(Protocol("loso"), "megc2019-3", "list", folds))
    assert read_folds(path).folds == folds
    facts = json.loads(path.read_text())
    edits: list[dict[str, Any]] = [
        {"labels": "smic-3"},
        {"clip_list": "another"},
        {"protocol": {"name": "lovo"}},
        {"clips": [*clips, "smic/s9/c"]},
        {"folds": facts["folds"][1:]},
        {"folds": facts["folds"][::-1]},
        {"sha256": "0" * 64},
    ]
    edits += [{key: None} for key in facts]
    edits += [{"folds": [one | {"train": list(clips)} for one in facts["folds"]]}]
    edits += [{"folds": [one | {"test": [*one["test"], clips[0]]} for one in facts["folds"]]}]
    for edit in tries.of(edits, quick=40):
        path.write_text(json.dumps(facts | edit))
        with refused(ConfigError, "folds.json"):
            read_folds(path)


def _by_hand(labels: list[int], predicted: list[int], count: int) -> tuple[float, float, float]:
    """Return accuracy, UF1 and UAR by their definitions, 0 / 0 being 0."""
    pairs = list(zip(labels, predicted, strict=True))
    f1, recall = [], []
    for one in range(count):
        right = sum(true == found == one for true, found in pairs)
        false = sum(found == one != true for true, found in pairs)
        missed = sum(true == one != found for true, found in pairs)
        f1.append(2 * right / (2 * right + false + missed) if right else 0.0)
        recall.append(right / (right + missed) if right else 0.0)
    accuracy = sum(true == found for true, found in pairs) / len(pairs)
    return accuracy, sum(f1) / count, sum(recall) / count


@fault(
    36,
    "classes that are absent from a test, or from all predictions",
    without={
        "zero for what is divided by zero": instead(
            "mer_prep.metrics._ratio", lambda above, below: above / below
        ),
        "the fixed list of classes": instead(
            "mer_prep.metrics.confusion_matrix",
            lambda labels, predicted, *, classes: np.eye(classes, dtype=int),
        ),
    },
)
def absent_classes(tries: Tries) -> None:
    import warnings

    generator = np.random.default_rng(3)
    for number in tries.of(range(3000), quick=300):
        count = 2 + number % 5
        shown = generator.permutation(count)[: 1 + number % count]
        given = generator.permutation(count)[: 1 + number // 7 % count]
        size = 1 + number % 40
        labels = generator.choice(shown, size).tolist()
        predicted = generator.choice(given, size).tolist()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = score(labels, predicted, [f"class {one}" for one in range(count)])
        expected = _by_hand(labels, predicted, count)
        assert np.allclose((found.accuracy, found.uf1, found.uar), expected, rtol=0, atol=1e-12)
        assert all(np.isfinite(dataclasses.astuple(one)).all() for one in found.classes.values())
