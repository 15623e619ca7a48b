"""The composite's rule, counts and digests, on invented clips: no frames, no real list."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest

import mer_prep
from mer_prep.composite import build_composite, list_digest
from mer_prep.composite_files import (
    LEFT_OUT,
    label_map_digest,
    place_in_composite,
    protocol_line,
    read_composite_facts,
    replaced_text,
    write_composite,
)
from mer_prep.errors import ConfigError, ManifestError
from mer_prep.labels import read_label_map
from mer_prep.manifest import Clip, ImportRecord
from mer_prep.protocols import Protocol, folds_digest, read_folds
from tests.invented_corpora import CASME2, SAMM, clip, smic, spread

MEGC = read_label_map("megc2019-3")


def everything() -> list[Clip]:
    casme2 = {"disgust": 61, "repression": 27, "happiness": 32, "surprise": 25}
    samm = {
        "anger": 57, "contempt": 12, "disgust": 9, "fear": 8, "sadness": 6, "happiness": 26,
        "surprise": 15,
    }  # fmt: skip
    return [
        *spread("casme2", "sub{:02d}", CASME2, casme2),
        *spread("samm", "{:03d}", SAMM, samm),
        *smic(),
    ]


def test_442_clips_of_68_subjects() -> None:
    made = build_composite(everything(), MEGC)
    assert made.counts() == {"negative": 250, "positive": 109, "surprise": 83}
    assert made.counts("casme2") == {"negative": 88, "positive": 32, "surprise": 25}
    assert made.counts("samm") == {"negative": 92, "positive": 26, "surprise": 15}
    assert made.counts("smic") == {"negative": 70, "positive": 51, "surprise": 43}
    assert (len(made.samples), made.subjects(), len(made.folds)) == (442, 68, 68)
    assert sum(len(fold.test) for fold in made.folds) == 442
    assert made.left_out == {}
    codes = Counter(finding.code for finding in made.findings)
    # Invented names: counts agree everywhere, the list's digest for SMIC only.
    assert codes == {"digest-equal": 1, "digest-differs": 3}


def test_the_smic_part_is_the_published_list() -> None:
    made = build_composite(smic(), MEGC)
    assert made.digest("smic") == (
        "72ae9a441d79904938053ac1a95e94f6deb226a0ef0eac6c88ec185ce8ea6599"
    )
    assert [f.code for f in made.findings] == ["digest-equal", "corpus-absent"]


def test_the_digest_sees_clip_label_and_subject_but_not_padding() -> None:
    made = build_composite(smic(), MEGC)
    samples = list(made.samples)
    base = list_digest(samples)
    assert list_digest(samples[::-1]) == base
    relabelled = [dataclasses.replace(samples[0], label=2), *samples[1:]]
    assert list_digest(relabelled) != base
    other = dataclasses.replace(samples[0].clip, subject="s1")
    assert list_digest([dataclasses.replace(samples[0], clip=other), *samples[1:]]) == base


def test_the_rule_for_casme2_leaves_out_what_the_official_list_does() -> None:
    rows = [
        clip("casme2", "sub04", "EP12_01f", "disgust"),
        clip("casme2", "sub05", "EP09_05f", "surprise"),
        clip("casme2", "sub24", "EP02_07", "disgust"),
        clip("casme2", "sub24", "EP07_01", "surprise"),
        clip("casme2", "sub09", "EP13_02", "fear"),
        clip("casme2", "sub01", "EP03_02", "others"),
        clip("casme2", "sub01", "EP02_01f", "happiness"),
        clip("casme2", "sub02", "EP02_01f", "happiness"),
    ]
    made = build_composite(rows, MEGC)
    kept = [sample.clip.clip_id for sample in made.samples]
    assert kept == ["casme2/sub01/EP02_01f", "casme2/sub02/EP02_01f"]
    assert "apex is missing" in made.left_out["casme2/sub04/EP12_01f"]
    assert "version A" in made.left_out["casme2/sub24/EP07_01"]
    assert made.left_out["casme2/sub01/EP03_02"] == "emotion 'others' has no class"
    sadness = [dataclasses.replace(rows[3], emotion="sadness"), *rows[-2:]]
    assert build_composite(sadness, MEGC).left_out == {
        "casme2/sub24/EP07_01": "emotion 'sadness' has no class"
    }


def test_a_difference_names_its_likely_cause() -> None:
    clips = [one for one in everything() if one.clip_id != "samm/006/invented_0"]
    record = ImportRecord(corpus="samm", source="samm", root="/", annotation_version="v2")
    (finding,) = [
        one
        for one in build_composite(clips, MEGC, {"samm": record}).findings
        if one.code == "count-differs" and one.message.startswith("samm")
    ]
    assert "negative 91 (published 92)" in finding.message
    assert finding.message.endswith(
        "Likely cause: 132 of 133 clips are there (see `mer-prep validate`)."
    )


def test_synthetic_clips_are_marked_and_not_compared(tmp_path: Path) -> None:
    clips = [dataclasses.replace(one, synthetic=True) for one in smic()]
    made = build_composite(clips, MEGC)
    assert [finding.code for finding in made.findings] == ["synthetic"]
    path = write_composite(tmp_path, made)
    assert json.loads(path.with_suffix(".json").read_text())["synthetic"] is True


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    made = build_composite(everything(), MEGC)
    path = write_composite(tmp_path, made)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    facts = json.loads(path.with_suffix(".json").read_text())
    assert len(lines) == 442
    assert facts["counts"]["all"]["classes"] == made.counts()
    assert facts["counts"]["smic"]["sha256"] == made.digest("smic")
    assert facts["folds"] == 68
    assert {line["class"] for line in lines} == {"negative", "positive", "surprise"}
    frozen = read_folds(path.with_name("folds.json"))
    folds = frozen.folds
    assert frozen == made.frozen()
    assert facts["protocol"] == {"name": "loso"}
    assert facts["folds_sha256"] == folds_digest(folds)
    assert path.with_name("left-out.csv").read_text() == "clip_id,reason\n"
    tested = [clip_id for fold in folds for clip_id in fold.test]
    assert sorted(tested) == sorted(line["clip_id"] for line in lines)


def test_another_variant_is_refused() -> None:
    with pytest.raises(ManifestError, match="for the HS form of smic; 'NIR' is imported"):
        build_composite([dataclasses.replace(one, variant="NIR") for one in smic()], MEGC)


def test_an_unknown_corpus_or_map_is_refused() -> None:
    with pytest.raises(ManifestError, match="does not know corpus 'mmew'"):
        build_composite([clip("mmew", "S01", "x", "happiness")], MEGC)
    with pytest.raises(ConfigError, match="Did you mean 'megc2019-3'"):
        read_label_map("megc2019")


def test_every_clip_left_out_is_listed_with_its_reason(tmp_path: Path) -> None:
    extra = [
        clip("casme2", "sub01", "EP03, 02", "others"),
        clip("casme2", "sub04", "EP12_01f", "disgust"),
    ]
    made = build_composite([*smic(), *extra], MEGC)
    path = write_composite(tmp_path, made)
    with open(path.with_name(LEFT_OUT), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["clip_id"]: row["reason"] for row in rows} == dict(made.left_out)
    assert [row["clip_id"] for row in rows] == [
        "casme2/sub01/EP03, 02",
        "casme2/sub04/EP12_01f",
    ]
    first, left = made.samples[0], rows[0]
    place = place_in_composite(tmp_path, first.clip.clip_id)
    assert place == {
        "labels": "megc2019-3",
        "class": MEGC.classes[first.label],
        "label": first.label,
        "left_out": None,
    }
    found = place_in_composite(tmp_path, left["clip_id"])
    assert found is not None
    assert found["class"] is None
    assert found["left_out"] == left["reason"] == "emotion 'others' has no class"
    other = place_in_composite(tmp_path, "samm/006/006_1_2")
    assert other is not None
    assert other["class"] is other["left_out"] is None
    assert place_in_composite(tmp_path / "nowhere", left["clip_id"]) is None


def test_cross_corpus_holds_the_corpora_that_it_names_and_no_others() -> None:
    crossed = Protocol("cross-corpus", train=("casme2",), test=("smic",))
    made = build_composite(everything(), MEGC, protocol=crossed)
    alone = [one for one in everything() if one.corpus != "samm"]
    assert made.corpora == ["casme2", "smic"]
    assert len(made.samples) == 145 + 164
    assert made.digest() == build_composite(alone, MEGC).digest()
    (fold,) = made.folds
    assert {*fold.train, *fold.test} == {one.clip.clip_id for one in made.samples}
    assert set(made.left_out) == set()
    wrong = Protocol("cross-corpus", train=("casme2",), test=("smik",))
    with pytest.raises(ConfigError, match="No labelled clip is of corpus 'smik'"):
        build_composite(everything(), MEGC, protocol=wrong)


def test_the_protocol_is_said_in_one_line_and_what_is_replaced_in_another(tmp_path: Path) -> None:
    five = build_composite(smic(), MEGC, protocol=Protocol("k-fold", folds=5, seed=0))
    sizes = sorted(len(fold.test) for fold in five.folds)
    assert protocol_line(five) == (
        f"protocol k-fold, 5 folds, seed 0, folds {folds_digest(five.folds)[:8]}..., "
        f"tested {sizes[0]} to {sizes[-1]} clips a fold"
    )
    lovo = build_composite(smic(), MEGC, protocol=Protocol("lovo"))
    line = protocol_line(lovo)
    assert line.startswith("protocol lovo, 164 folds, folds ")
    assert line.endswith(" 1 clip a fold")
    assert replaced_text(read_composite_facts(tmp_path), five) == ""
    write_composite(tmp_path, five)
    before = read_composite_facts(tmp_path)
    assert replaced_text(before, five) == ""
    words = "megc2019-3, k-fold, 5 folds, seed 0, 164 clips"
    assert replaced_text(before, lovo) == words
    fewer = build_composite(smic()[1:], MEGC, protocol=five.protocol)
    assert replaced_text(before, fewer) == words


def test_the_report_states_what_decides_a_score(tmp_path: Path) -> None:
    made = build_composite(smic(), MEGC, protocol=Protocol("k-fold", folds=4, seed=3))
    stages = {
        "align": {"version": 5, "params": {"mode": "stabilized"}},
        "flow": {"version": 2, "params": {"apex": "annotated-or-spotted", "method": "tvl1"}},
    }
    pipeline = {"name": "mine", "stages": stages}
    path = write_composite(tmp_path, made, pipeline=pipeline)
    facts = json.loads(path.with_suffix(".json").read_text())
    for part in (
        f"mer-prep {facts['mer_prep']} under the label map megc2019-3",
        facts["labels_sha256"][:16],
        f"164 clips of 16 subjects (smic 164 (annotation unknown)), clip list SHA-256 "
        f"{made.digest()}.",
        f"k-fold, seed 3, 4 folds, folds SHA-256 {folds_digest(made.folds)}.",
        'align version 5 {"mode":"stabilized"}; flow version 2 {',
        "The apex is, by stage: flow annotated-or-spotted.",
    ):
        assert part in facts["report"]
    path = write_composite(tmp_path, made)
    report = json.loads(path.with_suffix(".json").read_text())["report"]
    assert report.endswith("are not stated: no pipeline was named (composite --pipeline NAME).")


def test_clips_of_one_subject_are_reported_without_folds(tmp_path: Path) -> None:
    made = build_composite([one for one in smic() if one.subject == "s03"], MEGC)
    assert protocol_line(made) == "protocol loso, no folds: all clips are of one subject"
    path = write_composite(tmp_path, made)
    report = json.loads(path.with_suffix(".json").read_text())["report"]
    assert "There are no folds by loso: all clips are of one subject." in report


def test_the_digest_of_a_label_map_is_of_its_rules() -> None:
    same = dataclasses.replace(MEGC, name="mine", title="Mine", note="x")
    assert label_map_digest(same) == label_map_digest(MEGC)
    part = MEGC.corpora["smic"]
    other = dataclasses.replace(part, emotions={**part.emotions, "surprise": "negative"})
    changed = dataclasses.replace(MEGC, corpora={**MEGC.corpora, "smic": other})
    assert label_map_digest(changed) != label_map_digest(MEGC)


def test_the_citation_is_of_this_version() -> None:
    path = Path(mer_prep.__file__).parent.parent / "CITATION.cff"
    if not path.is_file():
        pytest.skip("an installed package has no CITATION.cff beside it")
    facts = dict(
        line.split(": ", 1) for line in path.read_text("utf-8").splitlines() if ": " in line
    )
    assert (facts["title"], facts["version"]) == ("mer-prep", mer_prep.__version__)
