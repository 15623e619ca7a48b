"""The label maps of the papers, on invented corpora with the published counts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mer_prep.cli import cli
from mer_prep.composite import Composite, build_composite
from mer_prep.errors import ConfigError, ManifestError, MerPrepError
from mer_prep.labels import label_map_names, read_label_map
from mer_prep.manifest import Clip, Finding, ImportRecord
from mer_prep.manifest_files import write_manifest
from mer_prep.sources.corpus import SOURCES
from mer_prep.sources.facts import corpus_facts
from tests.invented_corpora import corpus, record, records
from tests.test_composite import MEGC, everything

Run = Callable[..., Result]

# Map, annotation version of CASME II, classes in the map's order, subjects.
COUNTS = [
    ("megc2019-3", "A", (250, 109, 83), 68),
    ("megc2019-3", "B", (250, 109, 83), 68),
    ("megc2019-3", "B+1", (250, 109, 83), 68),
    ("casme2-3", "A", (90, 32, 28), 24),
    ("casme2-3", "B", (90, 32, 25), 24),
    ("casme2-3", "B+1", (91, 32, 25), 24),
    ("casme2-4", "A", (28, 27, 32, 63), 24),
    ("casme2-4", "B", (25, 27, 32, 63), 24),
    ("casme2-5", "A", (28, 32, 63, 27, 99), 26),
    ("casme2-5", "B", (25, 32, 63, 27, 99), 26),
    ("casme2-5", "B+1", (25, 32, 64, 27, 99), 26),
    ("samm-3", "B", (92, 26, 15), 28),
    ("samm-5", "B", (15, 26, 57, 12, 26), 27),
    ("smic-3", "B", (70, 51, 43), 16),
    ("casme-4", "B", (45, 20, 39, 68), None),
    ("casme3-3", "B", (457, 55, 187), 88),
    ("casme3-4", "B", (457, 55, 187, 161), 94),
    ("casme3-7", "B", (250, 187, 161, 86, 64, 57, 55), 94),
    ("objective-5", "A", (49, 28, 119, 34, 23), 47),
    ("objective-5", "B", (49, 28, 119, 34, 23), 47),
    ("meta-cde", "A", (91, 90, 328), 59),
    ("meta-cde", "B", (88, 90, 331), 59),
    ("survey-4", "A", (444, 126, 122, 112), 102),
    ("survey-4", "B", (447, 126, 122, 109), 102),
    ("survey-9", "A", (63, 17, 69, 16, 122, 75, 127, 66, 68), None),
    ("survey-9", "B", (63, 20, 66, 16, 122, 75, 127, 66, 68), None),
]


def build(name: str, version: str = "A", seed: int | None = None) -> Composite:
    labels = read_label_map(name)
    clips = [one for part in labels.corpora for one in corpus(part, version)]
    return build_composite(clips, labels, _records(name, version), seed=seed)


def _records(name: str, version: str) -> dict[str, ImportRecord]:
    known = records(version)
    return {part: known[part] for part in read_label_map(name).corpora}


def ids(made: Composite) -> list[str]:
    return [one.clip.clip_id for one in made.samples]


@pytest.mark.parametrize(("name", "version", "counts", "subjects"), COUNTS)
def test_the_published_counts_come_out(
    name: str, version: str, counts: tuple[int, ...], subjects: int | None
) -> None:
    made = build(name, version)
    found = made.counts() if made.draw is None else made.draw.pool.classes
    people = made.subjects() if made.draw is None else made.draw.pool.subjects
    assert tuple(found.values()) == counts
    assert subjects in (None, people)
    # Every corpus is as published for its version, whatever the version.
    parts = [one for one in made.findings if not one.message.startswith("all corpora")]
    assert not [one for one in parts if one.code == "count-differs"]
    agreeing = [one for one in parts if one.code in ("counts-agree", "digest-equal")]
    differing = [one for one in parts if one.code == "digest-differs"]
    assert len(agreeing) + len(differing) == len(made.labels.corpora)


#: Their clips are cut at the import to lengths of one's choice, so nobody published how many.
UNCOUNTED = {"affwild2-7"}


def test_every_map_is_tried() -> None:
    assert {name for name, *_ in COUNTS} == set(label_map_names()) - UNCOUNTED


@pytest.mark.parametrize("name", label_map_names())
def test_maps_speak_of_emotions_versions_and_choices_that_importers_give(name: str) -> None:
    labels = read_label_map(name)
    for part_name, part in labels.corpora.items():
        facts, source = corpus_facts(part_name), SOURCES[part_name]
        assert set(part.emotions) <= set(facts.emotions)
        assert {one for entry in part.expected for one in entry.versions} <= set(facts.versions)
        assert {one.emotion for one in part.drop} - {None} <= set(facts.emotions)
        for option, value in part.options.items():
            assert value in source.options[option]  # type: ignore[operator]
        if part.variant:
            assert part.variant in source.variants
    total = labels.total()
    if name in UNCOUNTED:
        assert total is None
        return
    assert total is not None
    firsts = [part.expected[0] for part in labels.corpora.values()]
    for one in labels.classes:
        assert total.classes[one] == sum(first.classes[one] for first in firsts) > 0


def test_the_versions_of_the_corpora_facts_give_the_same_counts() -> None:
    for name in ("casme2-4", "casme2-5"):
        labels = read_label_map(name)
        for entry in labels.corpora["casme2"].expected:
            for version in entry.versions:
                emotions = corpus_facts("casme2").versions[version].emotions
                assert emotions is not None
                assert entry.classes == {one: emotions[one] for one in labels.classes}


def test_a_total_of_another_version_is_explained() -> None:
    made = build("survey-4", "B")
    (finding,) = [one for one in made.findings if one.code == "count-differs"]
    assert finding.message == (
        "all corpora: negative 447 (published 444), surprise 109 (published 112). Likely cause: "
        "casme2 is annotated in version B, the published list is of version A."
    )
    (drawn,) = [one for one in made.findings if one.code == "balanced"]
    assert drawn.message == (
        "109 clips of each of 4 classes (published 112) drawn from 804 with seed 0"
    )
    assert made.annotations == {
        "casme": "189", "casme2": "B", "casme_sq": "final", "samm": "v2", "smic": "HS"
    }  # fmt: skip


def _causes(name: str, clips: list[Clip], known: ImportRecord) -> str:
    made = build_composite(clips, read_label_map(name), {known.corpus: known})
    return " ".join(one.message for one in made.findings if one.code == "count-differs")


def test_a_difference_names_its_likely_cause() -> None:
    version_a, version_b = corpus("casme2", "A"), corpus("casme2", "B")
    assert _causes("casme2-5", version_a, record("casme2", "A")) == ""
    assert "surprise 28 (published 25). Likely cause: these are the counts of annotation " in (
        _causes("casme2-5", version_a, record("casme2", "B"))
    )
    assert _causes("casme2-5", version_b[1:], record("casme2", "unknown")).endswith(
        "Likely cause: the annotations are of version unknown, and counts are published for "
        "A or B or B+1."
    )
    lost = Finding("error", "folder-missing", "There is no folder.", "casme2/sub01/x")
    short = record("casme2", "B", findings=(lost, lost))
    assert "Likely cause: 2 annotated clips have no frames" in (
        _causes("casme2-5", version_b[2:], short)
    )
    assert _causes("casme2-5", version_b[1:], record("casme2", "B")).endswith(
        "Likely cause: 245 of 246 clips are there (see `mer-prep validate`)."
    )
    first, *rest = corpus("samm")
    assert "Likely cause: 135 of 136 clips are there" in (
        _causes("samm-5", rest, record("samm", "v2"))
    )
    moved = dataclasses.replace(first, emotion="happiness")
    assert "version v2, or differ from it" in (
        _causes("samm-5", [moved, *rest], record("samm", "v2"))
    )


def test_a_corpus_without_its_objective_classes_is_no_absent_corpus() -> None:
    labels = read_label_map("objective-5")
    bare = [dataclasses.replace(one, objective_class=None) for one in corpus("casme2")]
    note = Finding("info", "objective-classes-missing", "No workbook of objective classes.")
    known = records() | {"casme2": record("casme2", "B", findings=(note,))}
    known = {name: known[name] for name in labels.corpora}
    made = build_composite([*bare, *corpus("samm")], labels, known)
    assert [one.code for one in made.findings] == ["count-differs", "counts-agree", "count-differs"]
    assert "no workbook of objective classes was found at the import" in made.findings[0].message
    assert set(made.left_out.values()) == {
        "no objective class is annotated", "objective class 6 has no class",
        "objective class 7 has no class",
    }  # fmt: skip


def test_macro_expressions_are_left_out_unless_they_are_asked_for(tmp_path: Path) -> None:
    made = build("casme3-7")
    assert sorted(set(made.left_out.values())) == ["a macro-expression"]
    assert len(made.left_out) == 9
    head = 'title = "x"\nsource = "y"\nclasses = ["a"]\n[corpora.casme3]\nexpression_type = '
    path = tmp_path / "mine.toml"
    for kind, count in (("micro", 64), ("macro", 9), ("all", 73)):
        path.write_text(f'{head}"{kind}"\nemotions = {{ anger = "a" }}\n')
        labels = read_label_map(str(path))
        assert len(build_composite(corpus("casme3"), labels).samples) == count


def test_another_form_or_choice_of_a_corpus_is_refused() -> None:
    part_a = read_label_map("casme3-3")
    cut = [dataclasses.replace(one, variant="part-a-clips") for one in corpus("casme3")]
    assert len(build_composite(cut, part_a).samples) == 699
    with pytest.raises(ManifestError, match="for the part-a form of casme3; 'part-c' is imported"):
        build_composite([dataclasses.replace(one, variant="part-c") for one in cut], part_a)
    survey = read_label_map("survey-9")
    estimated = record("casme_sq", "final", options={"label": "estimated"})
    with pytest.raises(ManifestError, match=r"(?s)label = self-report.*--label self-report"):
        build_composite(corpus("casme_sq"), survey, {"casme_sq": estimated})


def test_a_choice_that_an_import_does_not_leave_is_refused() -> None:
    survey = read_label_map("survey-9")
    part = dataclasses.replace(survey.corpora["casme_sq"], options={"labl": "self-report"})
    mine = dataclasses.replace(survey, corpora={**survey.corpora, "casme_sq": part})
    made = record("casme_sq", "final", options={"label": "self-report"})
    with pytest.raises(ManifestError, match=r"leaves no choice of 'labl'\. Did you mean 'label'"):
        build_composite(corpus("casme_sq"), mine, {"casme_sq": made})
    with pytest.raises(ManifestError, match=r"(?s)no choice of 'labl'\.\n.*casme_sq: none"):
        build_composite(corpus("casme_sq"), mine, {"casme_sq": record("casme_sq", "final")})


def test_one_seed_one_draw_whatever_the_order() -> None:
    labels = read_label_map("survey-9")
    clips = [one for part in labels.corpora for one in corpus(part, "A")]
    first = build_composite(clips, labels, seed=3)
    again = build_composite(clips[::-1], labels, seed=3)
    other = build_composite(clips, labels, seed=4)
    assert ids(first) == ids(again)
    assert first.digest() == again.digest() != other.digest()
    assert set(first.counts().values()) == set(other.counts().values()) == {16}
    # Fear has but 16 clips: the draw has no choice there, and has one everywhere else.
    common = set(ids(first)) & set(ids(other))
    fear = {one.clip.clip_id for one in first.samples if one.clip.emotion == "fear"}
    assert fear < common
    assert len(common) < 144


def test_the_draw_is_pinned() -> None:
    digest = "d37cef32302cf2ba64e0e0d68896b83183098827b69cb4b311c2dfb91b6433ce"
    assert build("survey-4", seed=1).digest() == digest


def test_a_clip_that_is_missing_changes_only_its_own_place_in_the_draw() -> None:
    labels = read_label_map("survey-4")
    clips = [one for part in labels.corpora for one in corpus(part, "A")]
    whole = build_composite(clips, labels)
    gone = next(one.clip for one in whole.samples if one.clip.emotion == "others")
    less = build_composite([one for one in clips if one != gone], labels)
    assert set(ids(whole)) - set(ids(less)) == {gone.clip_id}
    assert len(set(ids(less)) - set(ids(whole))) == 1


def test_a_class_without_a_clip_cannot_be_balanced() -> None:
    with pytest.raises(ManifestError, match="No clip has class 'anger'") as caught:
        build_composite(corpus("casme"), read_label_map("survey-9"))
    assert "`mer-prep labels survey-9`" in caught.value.hint


def test_a_map_that_draws_nothing_takes_no_seed() -> None:
    with pytest.raises(ConfigError, match="'megc2019-3' keeps all clips"):
        build_composite(everything(), MEGC, seed=0)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a runner of commands on a workspace of all corpora, CASME II in version A."""
    for name, known in records("A").items():
        write_manifest(tmp_path / "manifests", corpus(name, "A"), known)

    def call(*arguments: str) -> Result:
        result = CliRunner().invoke(cli, [*arguments, "--workspace", str(tmp_path)])
        if isinstance(result.exception, MerPrepError):
            raise result.exception
        return result

    return call


@pytest.mark.parametrize(
    ("name", "size", "per_class"), [("survey-4", 448, 112), ("survey-9", 144, 16)]
)
def test_the_command_draws_the_sizes_of_the_survey(
    run: Run, tmp_path: Path, name: str, size: int, per_class: int
) -> None:
    drawn = {}
    for seed in ("1", "1", "2"):
        result = run("composite", "--labels", name, "--seed", seed)
        assert result.exit_code == 0
        assert f"composite: {size} clips" in result.output
        assert f"drawn from {'804' if size == 448 else '623'} with seed {seed}" in result.output
        facts = json.loads((tmp_path / "composite.json").read_text())
        assert set(facts["counts"]["all"]["classes"].values()) == {per_class}
        assert (facts["draw"]["seed"], facts["draw"]["per_class"]) == (int(seed), per_class)
        assert sum(facts["draw"]["pool"]["classes"].values()) in (804, 623)
        digest = facts["counts"]["all"]["sha256"]
        assert drawn.setdefault(seed, digest) == digest
        lines = [json.loads(one) for one in (tmp_path / "composite.jsonl").read_text().splitlines()]
        assert len(lines) == size
    assert drawn["1"] != drawn["2"]


def test_the_command_says_what_agrees_and_refuses_a_seed_without_a_draw(run: Run) -> None:
    output = run("composite", "--labels", "meta-cde").output
    assert "casme2: the counts are the published ones for annotation version A" in output
    assert "The paper scored 481 clips" in output
    with pytest.raises(ConfigError, match="takes no seed"):
        run("composite", "--labels", "meta-cde", "--seed", "1")


def test_labels_lists_and_shows_the_maps() -> None:
    def labels(*arguments: str) -> str:
        result = CliRunner().invoke(cli, ["labels", *arguments])
        assert result.exit_code == 0
        return result.output

    listed = labels()
    for name in label_map_names():
        assert f"\n{name} " in listed
    assert "448 of 804" in listed
    shown = labels("survey-4")
    assert "as many clips of every class as the smallest has, 112; composite --seed N" in shown
    assert "casme_sq (--label self-report):" in shown
    assert "left out: sub12: not in the survey's pool" in shown
    assert "version B: 246 clips of 26 subjects: surprise 25" in labels("casme2-5")
    assert "III (99 clips): objective class III" in labels("objective-5")
    facts = json.loads(labels("survey-9", "--json"))
    assert facts["balance"] == "minimum"
    assert facts["corpora"]["casme2"]["expected"][0]["versions"] == ["A"]
