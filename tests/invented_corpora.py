"""Whole corpora of invented clips whose counts are the published ones: no frames, no real list.

Clips per subject and per emotion are published; which clip of a subject has which emotion is made
up here, so that every count that is known comes out.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence

from mer_prep.manifest import Clip, ImportRecord
from mer_prep.sources.facts import corpus_facts

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


#: Clip names that label maps speak of, with emotions that fit the counts; the rest is invented.
_CASME2_NAMED = (
    ("sub04", "EP12_01f", "disgust"),
    ("sub05", "EP09_05f", "disgust"),
    ("sub07", "EP06_01", "others"),
    ("sub20", "EP16_01", "others"),
    ("sub24", "EP07_01", "sadness"),
    ("sub24", "EP07_04f", "sadness"),
    ("sub24", "EP10_03", "sadness"),
    ("sub09", "invented_fear", "fear"),
    ("sub10", "invented_fear", "fear"),
    *(("sub12", f"invented_a{k}", "disgust") for k in range(5)),
    *(("sub12", f"invented_b{k}", "happiness") for k in range(2)),
    *(("sub12", f"invented_c{k}", "surprise") for k in range(4)),
    ("sub12", "invented_d", "others"),
)

_CASME2_FOUR = ("disgust", "repression", "happiness", "surprise")


def casme2(version: str = "B") -> list[Clip]:
    """Return CASME II, 255 clips of 26 subjects, or 256 as annotation version B+1 has."""
    facts = corpus_facts("casme2").versions["B"]
    assert facts.per_subject is not None
    assert facts.emotions is not None
    # A subject's clips of the four emotions, the two among them that MEGC2019 leaves out.
    four = {f"sub{k:02d}": count + (k in (4, 5)) for k, count in CASME2.items()}
    rows = list(_CASME2_NAMED)
    left = Counter(facts.emotions) - Counter(emotion for *_, emotion in rows)
    pools = [
        _in_turn(left, _CASME2_FOUR),
        # Sadness goes to the subject with most clips.
        _in_turn(left, ("others", "sadness")),
    ]
    for subject in sorted(facts.per_subject, key=lambda one: facts.per_subject[one]):  # type: ignore[index]
        named = [emotion for one, _, emotion in rows if one == subject]
        wanted = four.get(subject, 0)
        others = facts.per_subject[subject] - wanted
        used = sum(emotion in _CASME2_FOUR for emotion in named)
        for pool, count in ((0, wanted - used), (1, others - (len(named) - used))):
            rows += [(subject, f"invented_{pool}{k}", next(pools[pool])) for k in range(count)]
    if version == "B+1":
        rows.append(("sub24", "EP02_07", "disgust"))
    clips = [clip("casme2", *row) for row in rows]
    if version == "A":
        told = {("sub24", name) for name in ("EP07_01", "EP07_04f", "EP10_03")}
        clips = [
            dataclasses.replace(one, emotion="surprise") if (one.subject, one.clip) in told else one
            for one in clips
        ]
    return _with_objective(clips, {1: 25, 2: 15, 3: 99, 4: 26, 5: 20, 6: 1}, subjects=26)


def samm() -> list[Clip]:
    """Return SAMM, 159 clips of 29 subjects."""
    facts = corpus_facts("samm").versions["v2"]
    assert facts.per_subject is not None
    assert facts.emotions is not None
    rows = [
        ("006", "006_1_2", "anger"),
        ("006", "006_1_3", "anger"),
        ("024", "invented", "fear"),
        ("036", "invented", "disgust"),
    ]
    left = Counter(facts.emotions) - Counter(emotion for *_, emotion in rows)
    # The rare emotions come last, to the subject with most clips.
    rare = ("disgust", "fear", "sadness")
    common = [one for one in left if one not in ("others", *rare)]
    pool = _in_turn(left, (*common, *rare))
    # Every subject has a clip of a common emotion but those named above.
    rows += [(f"{one:03d}", "invented_c", next(pool)) for one in SAMM if one not in (24, 36)]
    for subject in sorted(facts.per_subject, key=lambda one: facts.per_subject[one]):  # type: ignore[index]
        labelled = SAMM.get(int(subject), 0)
        named = sum(one == subject for one, *_ in rows)
        rows += [(subject, f"invented_{k}", next(pool)) for k in range(labelled - named)]
        others = facts.per_subject[subject] - labelled
        rows += [(subject, f"invented_o{k}", "others") for k in range(others)]
    clips = [clip("samm", *row) for row in rows]
    return _with_objective(clips, {1: 24, 2: 13, 3: 20, 4: 8, 5: 3, 6: 7}, subjects=21)


def casme() -> list[Clip]:
    """Return CASME, 189 clips of 18 subjects."""
    facts = corpus_facts("casme").versions["189"]
    assert facts.per_subject is not None
    assert facts.emotions is not None
    subjects = {int(one.removeprefix("sub")): count for one, count in facts.per_subject.items()}
    return spread("casme", "sub{:02d}", subjects, dict(facts.emotions))


def casme_sq() -> list[Clip]:
    """Return the 54 micro-expressions of the survey by self-report, and some macro-expressions."""
    counts = {
        "disgust": 16, "happiness": 12, "surprise": 10, "anger": 8, "fear": 4, "pain": 2,
        "helpless": 1, "sadness": 1,
    }  # fmt: skip
    subjects = {15 + k: 4 if k < 12 else 3 for k in range(14)}
    micro = spread("casme_sq", "s{}", subjects, counts)
    macro = [clip("casme_sq", "s40", f"macro_{k}", "anger") for k in range(9)]
    return [*micro, *(dataclasses.replace(one, expression_type="macro") for one in macro)]


def casme3() -> list[Clip]:
    """Return part A of CAS(ME)^3, 860 clips of 94 subjects, and some macro-expressions."""
    facts = corpus_facts("casme3").versions["A-v2"]
    assert facts.emotions is not None
    left = Counter(facts.emotions)
    pool = _in_turn(left, [one for one in left if one != "others"])
    # Six subjects have no clip but others.
    labelled = [(k % 88 + 1, emotion) for k, emotion in enumerate(pool)]
    others = [(k % 94 + 1, "others") for k in range(93, 93 - left["others"], -1)]
    clips = [
        clip("casme3", f"spNO.{subject}", f"x{k}", emotion, variant="part-a")
        for k, (subject, emotion) in enumerate([*labelled, *others])
    ]
    macro = [clip("casme3", f"spNO.{k + 1}", "m", "anger", variant="part-a") for k in range(9)]
    return [*clips, *(dataclasses.replace(one, expression_type="macro") for one in macro)]


def record(corpus: str, version: str, **fields: object) -> ImportRecord:
    """Return how an invented corpus was imported."""
    return ImportRecord(
        corpus=corpus, source=corpus, root="/nowhere", annotation_version=version, **fields
    )


def records(casme2_version: str = "B") -> dict[str, ImportRecord]:
    """Return the import records of all invented corpora."""
    return {
        "casme": record("casme", "189"),
        "casme2": record("casme2", casme2_version),
        "samm": record("samm", "v2"),
        "smic": record("smic", "HS"),
        "casme_sq": record("casme_sq", "final", options={"label": "self-report"}),
        "casme3": record("casme3", "A-v2+macro"),
    }


def corpus(name: str, casme2_version: str = "B") -> list[Clip]:
    """Return an invented corpus by name."""
    if name == "casme2":
        return casme2(casme2_version)
    return {
        "casme": casme, "samm": samm, "smic": smic, "casme_sq": casme_sq, "casme3": casme3
    }[name]()  # fmt: skip


def _in_turn(left: Counter[str], emotions: Sequence[str]) -> Iterator[str]:
    return (emotion for emotion in emotions for _ in range(left[emotion]))


def _with_objective(clips: list[Clip], counts: dict[int, int], *, subjects: int) -> list[Clip]:
    """Give objective classes so that so many subjects have one of I to V; the rest get VII."""
    names = sorted(
        {one.subject for one in clips},
        key=lambda name: -sum(one.subject == name for one in clips),
    )[:subjects]
    # One clip of every such subject first, then whatever they have.
    firsts = [next(one for one in clips if one.subject == name) for name in names]
    taken = {one.clip_id for one in firsts}
    rest = [one for one in clips if one.clip_id not in taken and one.subject in names]
    order = [one.clip_id for one in (*firsts, *rest)]
    labels = [number for number, count in counts.items() for _ in range(count)]
    given = dict(zip(order, labels, strict=False))
    return [dataclasses.replace(one, objective_class=given.get(one.clip_id, 7)) for one in clips]
