"""Protocols: folds, the file that freezes them, and leaks of every kind."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mer_prep.composite import build_composite
from mer_prep.errors import ConfigError, LeakError, ManifestError
from mer_prep.labels import read_label_map
from mer_prep.protocols import (
    PROTOCOLS,
    Fold,
    FrozenFolds,
    Member,
    Protocol,
    check_folds,
    check_protocol,
    make_folds,
    original,
    person,
    read_folds,
    write_folds,
)
from tests.test_composite import everything


def member(clip_id: str, label: int = 0, source_digest: str = "") -> Member:
    corpus, subject, _ = clip_id.split("/")
    return Member(clip_id, corpus, f"{corpus}/{subject}", label, source_digest)


TOYS = [
    member("a/1/x"),
    member("a/1/y", 1),
    member("a/2/x", 1),
    member("b/1/x"),
    member("b/3/x", 1),
]


def sides(folds: list[Fold]) -> dict[str, tuple[str, ...]]:
    return {fold.name: fold.test for fold in folds}


def test_loso_tests_every_subject_once_and_keeps_corpora_apart() -> None:
    folds = make_folds(Protocol("loso"), TOYS)
    assert [fold.name for fold in folds] == ["a/1", "a/2", "b/1", "b/3"]
    assert folds[0] == Fold("a/1", train=("a/2/x", "b/1/x", "b/3/x"), test=("a/1/x", "a/1/y"))


def test_cde_is_loso_over_several_corpora() -> None:
    assert make_folds(Protocol("cde"), TOYS) == make_folds(Protocol("loso"), TOYS)
    with pytest.raises(ConfigError, match="needs two corpora or more; there is a only"):
        make_folds(Protocol("cde"), TOYS[:3])


def test_lovo_tests_every_clip_and_warns() -> None:
    folds = make_folds(Protocol("lovo"), TOYS)
    assert sides(folds) == {one.clip_id: (one.clip_id,) for one in TOYS}
    assert all(len(fold.train) == len(TOYS) - 1 for fold in folds)
    made = build_composite(
        everything()[:20], read_label_map("megc2019-3"), protocol=Protocol("lovo")
    )
    found = {one.code: one for one in made.findings}
    assert found["subjects-recur"].level == "warning"
    assert "the tested clip is in training" in found["subjects-recur"].message


def test_leave_one_corpus_out() -> None:
    folds = make_folds(Protocol("leave-one-corpus-out"), TOYS)
    assert folds == [
        Fold("a", train=("b/1/x", "b/3/x"), test=("a/1/x", "a/1/y", "a/2/x")),
        Fold("b", train=("a/1/x", "a/1/y", "a/2/x"), test=("b/1/x", "b/3/x")),
    ]
    with pytest.raises(ConfigError, match="two corpora or more"):
        make_folds(Protocol("leave-one-corpus-out"), TOYS[:3])


def test_cross_corpus_trains_on_some_and_tests_others() -> None:
    third = [*TOYS, member("c/9/x")]
    (fold,) = make_folds(Protocol("cross-corpus", train=("b", "c"), test=("a",)), third)
    assert fold.name == "b+c to a"
    assert fold.train == ("b/1/x", "b/3/x", "c/9/x")
    assert fold.test == ("a/1/x", "a/1/y", "a/2/x")
    with pytest.raises(ConfigError, match="No labelled clip is of corpus 'casme22'"):
        make_folds(Protocol("cross-corpus", train=("casme22",), test=("a",)), third)
    with pytest.raises(LeakError, match="'a' is trained on and tested") as caught:
        Protocol("cross-corpus", train=("a", "b"), test=("a",))
    assert caught.value.hint == "test on a corpus that is not trained on"


def test_k_fold_keeps_subjects_whole_and_classes_even() -> None:
    members = [one.member for one in build_composite(everything(), MEGC).samples]
    folds = make_folds(Protocol("k-fold", folds=5, seed=3), members)
    assert [fold.name for fold in folds] == ["1", "2", "3", "4", "5"]
    label = {one.clip_id: one.label for one in members}
    assert sorted(clip for fold in folds for clip in fold.test) == sorted(label)
    total = Counter(label.values())
    for fold in folds:
        counts = Counter(label[clip] for clip in fold.test)
        for one, count in total.items():
            assert abs(counts[one] - count / 5) <= 0.2 * count / 5, (fold.name, counts)


def test_k_fold_depends_on_the_seed_and_not_on_the_order() -> None:
    members = [one.member for one in build_composite(everything(), MEGC).samples]
    first = make_folds(Protocol("k-fold", seed=1), members)
    assert make_folds(Protocol("k-fold", seed=1), members[::-1]) == first
    assert make_folds(Protocol("k-fold", seed=2), members) != first
    with pytest.raises(ConfigError, match="9 folds need as many subjects; there are 4"):
        make_folds(Protocol("k-fold", folds=9), TOYS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "losso"}, "Did you mean 'loso'"),
        ({"name": "loso", "folds": 5}, "takes no number of folds.\n.*--protocol k-fold"),
        ({"name": "loso", "train": ("a",)}, "takes no corpora to train"),
        ({"name": "cross-corpus", "train": ("a",)}, "needs the corpora to test"),
        ({"name": "k-fold", "folds": 1}, "at least 2 folds"),
    ],
)
def test_parameters_are_checked(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Protocol(**arguments)  # type: ignore[arg-type]


def test_a_single_subject_cannot_be_split() -> None:
    with pytest.raises(ConfigError, match="two subjects or more"):
        make_folds(Protocol("loso"), TOYS[:2])


def test_the_composite_of_one_subject_has_counts_and_no_folds() -> None:
    made = build_composite([one for one in everything() if one.subject == "s03"], MEGC)
    assert made.counts() == {"negative": 22, "positive": 11, "surprise": 6}
    assert made.folds == ()
    assert "one-subject" in {one.code for one in made.findings}


# --- leaks ------------------------------------------------------------------------------------


def leak(train: Member, test: Member, *, subjects_may_recur: bool = False) -> None:
    fold = Fold("one", (train.clip_id,), (test.clip_id,))
    check_folds([fold], {train, test}, subjects_may_recur=subjects_may_recur)


def test_the_same_clip_or_person_on_both_sides() -> None:
    with pytest.raises(LeakError, match="the same clip in training and test: a/1/x"):
        leak(member("a/1/x"), member("a/1/x"))
    with pytest.raises(LeakError, match="the same person in training and test: a/1/x and a/1/y"):
        leak(member("a/1/x"), member("a/1/y"))
    leak(member("a/1/x"), member("a/1/y"), subjects_may_recur=True)
    leak(member("a/1/x"), member("b/1/x"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("casme2/sub01/x", "casme2/1/y"),
        ("casme2/SUB01/x", "casme2/sub01/y"),
        ("smic/s03/x", "smic/s3/y"),
        ("samm/006/x", "samm/6/y"),
        ("casme3/spNO.1/x", "casme3/sp_01/y"),
        ("samm/006/x", "samm_lv/006/y"),
        ("mine/Anna/x", "mine/anna /y"),
    ],
)
def test_one_person_under_two_spellings(one: str, other: str) -> None:
    assert person(member(one)) == person(member(other))
    with pytest.raises(LeakError, match="the same person"):
        leak(member(one), member(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("casme2/sub01/x", "casme2/sub10/x"),
        ("casme2/sub01/x", "casme/sub01/x"),
        ("mine/control1/x", "mine/patient1/x"),
        ("mine/3-30-1280x720/x", "mine/4-30-1280x720/x"),
    ],
)
def test_two_people_stay_two(one: str, other: str) -> None:
    assert person(member(one)) != person(member(other))
    leak(member(one), member(other))


def test_the_same_frames_under_two_names() -> None:
    with pytest.raises(LeakError, match="the same frames under two names"):
        leak(member("casme2/sub01/x", 0, "d1"), member("mine/anna/y", 0, "d1"))
    leak(member("casme2/sub01/x", 0, ""), member("mine/anna/y", 0, ""))


def test_two_expressions_of_one_folder_are_two() -> None:
    # Both have all frames of the folder; their own do not overlap.
    one, other, third = (
        dataclasses.replace(member(f"casme/sub01/{name}", 0, "d1"), onset=onset, offset=offset)
        for name, onset, offset in (("a", 10, 20), ("b", 21, 40), ("c", 35, 50))
    )
    leak(one, other, subjects_may_recur=True)
    with pytest.raises(LeakError, match="the same frames"):
        leak(other, third, subjects_may_recur=True)
    with pytest.raises(LeakError, match="the same frames"):
        leak(other, dataclasses.replace(one, onset=None), subjects_may_recur=True)


@pytest.mark.parametrize(
    "copy",
    ["EP02_01f_flip", "EP02_01f-mirrored", "EP02_01f_aug3", "EP02_01f_mag10_flip",
     "EP02_01f - Copy (2)", "ep02_01f_rot-5"],
)  # fmt: skip
def test_augmented_copies(copy: str) -> None:
    assert original(member(f"casme2/sub01/{copy}")) == "casme2/1/ep02_01f"
    with pytest.raises(LeakError, match="augmented copy"):
        leak(
            member("casme2/sub01/EP02_01f"),
            member(f"casme2/sub01/{copy}"),
            subjects_may_recur=True,
        )


def test_ordinary_names_are_no_copies() -> None:
    names = ["EP02_01f", "EP02_02", "006_1_2", "s1_ne_01", "disgust1_1", "flip", "EP12_2_10"]
    made = {original(member(f"a/1/{name}")) for name in names}
    assert made == {f"a/1/{name.casefold()}" for name in names}


def test_a_clip_is_tested_once_and_known() -> None:
    folds = [Fold("one", ("b/1/x",), ("a/1/x",)), Fold("two", ("b/3/x",), ("a/1/x",))]
    with pytest.raises(LeakError, match="tested in folds one and two"):
        check_folds(folds, TOYS)
    with pytest.raises(LeakError, match="not among the clips"):
        check_folds([Fold("one", ("b/1/x",), ("a/7/x",))], TOYS)
    with pytest.raises(LeakError, match="trains on nothing"):
        check_folds([Fold("one", (), ("a/1/x",))], TOYS)


def test_an_unreadable_clip_has_no_digest() -> None:
    clips = [dataclasses.replace(one, source_digest="unreadable") for one in everything()]
    made = build_composite(clips, MEGC)
    assert {one.member.source_digest for one in made.samples} == {""}


# --- the file ---------------------------------------------------------------------------------

MEGC = read_label_map("megc2019-3")


def frozen(protocol: Protocol) -> FrozenFolds:
    return FrozenFolds(protocol, "my-map", "0" * 64, tuple(make_folds(protocol, TOYS)))


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol("loso"),
        Protocol("lovo"),
        Protocol("k-fold", folds=2, seed=3),
        Protocol("cross-corpus", train=("b",), test=("a",)),
    ],
)
def test_frozen_folds_come_back(tmp_path: Path, protocol: Protocol) -> None:
    folds = frozen(protocol)
    path = write_folds(tmp_path / "folds.json", folds)
    assert read_folds(path) == folds
    assert json.loads(path.read_text())["sha256"] == folds.digest()


def change_protocol(facts: dict[str, Any]) -> None:
    facts["protocol"] = {"name": "lovo"}


def repeat_fold(facts: dict[str, Any]) -> None:
    facts["folds"].append(facts["folds"][0])


def add_clip(facts: dict[str, Any]) -> None:
    facts["folds"][0]["test"].append("b/1/x")


def change_list(facts: dict[str, Any]) -> None:
    facts["clip_list"] = "1" * 64


@pytest.mark.parametrize("change", [change_protocol, repeat_fold, add_clip, change_list])
def test_changed_files_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    path = write_folds(tmp_path / "folds.json", frozen(Protocol()))
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match="digest differs"):
        read_folds(path)


@pytest.mark.parametrize("text", ["[]", "null", '{"schema": 2}', "\udcff"])
def test_foreign_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "folds.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match="no file of folds"):
        read_folds(path)


@pytest.mark.parametrize("name", [["loso"], None, 5])
def test_a_fold_has_a_name(tmp_path: Path, name: object) -> None:
    path = write_folds(tmp_path / "folds.json", frozen(Protocol()))
    facts = json.loads(path.read_text())
    facts["folds"][0]["name"] = name
    path.write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match="no file of folds"):
        read_folds(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no file of folds"):
        read_folds(tmp_path / "none.json")


def test_frozen_folds_are_taken_up_for_the_same_clips_and_labels_only() -> None:
    clips = everything()
    lovo = build_composite(clips[:30], MEGC, protocol=Protocol("lovo"))
    again = build_composite(clips[:30], MEGC, frozen=lovo.frozen())
    assert again.folds == lovo.folds
    assert again.protocol == Protocol("lovo")
    # The warning belongs to the folds, wherever they come from.
    assert "subjects-recur" in {one.code for one in again.findings}
    with pytest.raises(ConfigError, match="30 clips; here are 31, 30 of them the same"):
        build_composite(clips[:31], MEGC, frozen=lovo.frozen())
    other = dataclasses.replace(clips[0], emotion="surprise")
    with pytest.raises(ConfigError, match="other clips or labels"):
        build_composite([other, *clips[1:30]], MEGC, frozen=lovo.frozen())


def test_a_clip_is_given_once() -> None:
    with pytest.raises(ManifestError, match="given twice"):
        build_composite([*everything(), everything()[0]], MEGC)


def test_other_names_of_a_corpus_do_not_hide_its_people() -> None:
    one = dataclasses.replace(member("samm/006/x"), population="samm")
    other = dataclasses.replace(member("long/006/y"), population="samm_lv")
    assert person(one) == person(other) == "samm/6"


@pytest.mark.parametrize("count", [2, 3, 5, 9])
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_there_are_as_many_folds_as_asked_for(count: int, classes: int) -> None:
    # Subjects of one class each leave folds that share nothing with them.
    few = [member(f"a/{number}/x", number % classes) for number in range(count)]
    assert len(make_folds(Protocol("k-fold", folds=count), few)) == count
    more = [*few, *(member(f"a/{number}/y", 0) for number in range(count + 2))]
    assert len(make_folds(Protocol("k-fold", folds=count), more)) == count


def test_every_clip_must_be_tested() -> None:
    folds = make_folds(Protocol(), TOYS)[:-1]
    with pytest.raises(ConfigError, match="1 of 5 clips are in no fold's test: b/3/x"):
        check_protocol(Protocol(), folds, TOYS)


def test_two_folds_of_one_name_are_refused() -> None:
    folds = [Fold("one", ("b/1/x",), ("a/1/x",)), Fold("one", ("a/1/x",), ("b/1/x",))]
    with pytest.raises(ConfigError, match="same name"):
        check_folds(folds, TOYS)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_says_what_it_is(name: str) -> None:
    card = PROTOCOLS[name]
    assert all((card.title, card.about, card.scores, card.counts, card.source, card.caveat))
