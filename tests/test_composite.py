"""The composite's rule, counts and digests, on invented clips: no frames, no real list."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest

from mer_prep.composite import build_composite, list_digest, write_composite
from mer_prep.errors import ConfigError, ManifestError
from mer_prep.labels import read_label_map
from mer_prep.manifest import Clip, ImportRecord
from mer_prep.protocols import folds_digest, read_folds

# Clips per subject of the published composite (counts only).
CASME2 = {
    1: 3,
    2: 9,
    3: 5,
    4: 2,
    5: 6,
    6: 4,
    7: 5,
    8: 1,
    9: 10,
    11: 4,
    12: 11,
    13: 2,
    14: 3,
    15: 3,
    16: 3,
    17: 31,
    19: 11,
    20: 2,
    21: 1,
    22: 2,
    23: 8,
    24: 3,
    25: 5,
    26: 11,
}
SAMM = {
    6: 11,
    7: 8,
    9: 4,
    10: 4,
    11: 20,
    12: 3,
    13: 6,
    14: 10,
    15: 3,
    16: 5,
    17: 4,
    18: 3,
    19: 1,
    20: 4,
    21: 2,
    22: 5,
    23: 1,
    24: 1,
    26: 9,
    28: 3,
    30: 3,
    31: 1,
    32: 4,
    33: 5,
    34: 3,
    35: 8,
    36: 1,
    37: 1,
}
SMIC = {
    1: (3, 2, 1), 2: (0, 1, 5), 3: (22, 11, 6), 4: (10, 4, 5), 5: (1, 0, 1), 6: (2, 0, 2),
    8: (9, 4, 0), 9: (0, 1, 3), 11: (3, 3, 1), 12: (0, 8, 1), 13: (0, 10, 0), 14: (3, 2, 5),
    15: (1, 1, 2), 18: (2, 0, 5), 19: (0, 1, 1), 20: (14, 3, 5),
}  # fmt: skip

MEGC = read_label_map("megc2019-3")


def clip(corpus: str, subject: str, name: str, emotion: str, **fields: object) -> Clip:
    return Clip(
        clip_id=f"{corpus}/{subject}/{name}",
        corpus=corpus,
        subject=subject,
        clip=name,
        root="/nowhere",
        frame_numbers=(1, 2, 3),
        frames=("1.jpg", "2.jpg", "3.jpg"),
        emotion=emotion,
        **fields,
    )


def spread(
    corpus: str, form: str, subjects: dict[int, int], emotions: dict[str, int]
) -> list[Clip]:
    """Give the emotions, in order, to the subjects' clips; names are invented."""
    labels = [name for name, count in emotions.items() for _ in range(count)]
    places = [(subject, k) for subject, count in subjects.items() for k in range(count)]
    return [
        clip(corpus, form.format(subject), f"invented_{k}", emotion)
        for (subject, k), emotion in zip(places, labels, strict=True)
    ]


def smic() -> list[Clip]:
    """Return SMIC-HS, whose clips are numbered per subject and emotion: the counts say all."""
    codes = (("ne", "negative"), ("po", "positive"), ("sur", "surprise"))
    return [
        clip("smic", f"s{subject:02d}", f"s{subject}_{code}_{k:02d}", emotion, variant="HS")
        for subject, counts in SMIC.items()
        for (code, emotion), count in zip(codes, counts, strict=True)
        for k in range(1, count + 1)
    ]


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
    assert "version v2" in finding.message


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
    protocol, folds = read_folds(path.with_name("folds.json"))
    assert protocol == facts["protocol"] == {"name": "loso"}
    assert tuple(folds) == made.folds
    assert facts["folds_sha256"] == folds_digest(folds)
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
