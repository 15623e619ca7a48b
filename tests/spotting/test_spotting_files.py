"""Ground truth, predictions and logs as files; what is wrong with a line is said."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_prep.errors import AnnotationError, ManifestError
from mer_prep.sources.expressions import normalise_emotion
from mer_prep.spotting import (
    Interval,
    Truth,
    Video,
    read_predictions,
    read_truth,
    score_spotting,
    write_log,
    write_truth,
)

TRUTH = Truth(
    (
        Video("samm_lv/006_1", "samm_lv/006"),
        Video("samm_lv/006_5", "samm_lv/006"),
        Video("casme_sq/15_0101disgust", "casme_sq/s15"),
    ),
    (
        Interval("samm_lv/006_1", 10, 19, "micro", "anger"),
        Interval("samm_lv/006_1", 50, 70, "macro"),
        Interval("casme_sq/15_0101disgust", 5, 9, "micro", "negative"),
    ),
)

TEXT = """\
video,subject,onset,offset,type,emotion
casme_sq/15_0101disgust,casme_sq/s15,5,9,micro,negative
samm_lv/006_1,samm_lv/006,10,19,micro,anger
samm_lv/006_1,samm_lv/006,50,70,macro,
samm_lv/006_5,samm_lv/006,,,,
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "spotted.csv"


def predictions(file: Path, text: str, **options: object) -> list[Interval]:
    file.write_text(text, encoding="utf-8")
    return read_predictions(file, TRUTH, **options)  # type: ignore[arg-type]


def test_a_truth_comes_back_as_it_was(file):
    assert write_truth(file, TRUTH).read_text(encoding="utf-8") == TEXT
    back = read_truth(file)
    assert back.digest() == TRUTH.digest()
    assert set(back.videos) == set(TRUTH.videos)
    assert not back.synthetic


def test_frames_notes_and_several_emotions_come_back(file):
    videos = (Video("c/a", "c/s", 3, 700), Video("c/b", "", None, 9), Video("c/d"))
    both = (Interval("c/a", 5, 9, "micro", "anger"), Interval("c/a", 5, 9, "micro", "fear"))
    truth = Truth(videos, (*both, Interval("c/a", 5, 9)), ('c: "1", left out; see', "c: another"))
    assert write_truth(file, truth).read_text(encoding="utf-8").splitlines() == [
        "video,subject,onset,offset,type,emotion,first,last,note",
        "c/a,c/s,5,9,micro,,3,700,",
        "c/a,c/s,5,9,micro,anger,3,700,",
        "c/a,c/s,5,9,micro,fear,3,700,",
        "c/b,,,,,,,9,",
        "c/d,,,,,,,,",
        ',,,,,,,,"c: ""1"", left out; see"',
        ",,,,,,,,c: another",
    ]
    back = read_truth(file)
    assert (back.videos, back.notes) == (videos, truth.notes)
    assert set(back.intervals) == set(truth.intervals)


WORDS = st.text(st.characters(exclude_categories=("C", "Z")), max_size=8)
FRAMES = st.integers(0, 10**9)


@st.composite
def truths(draw: st.DrawFn) -> Truth:
    names = draw(st.lists(WORDS.filter(bool), min_size=1, max_size=4, unique=True))
    frames = st.none() | FRAMES
    videos = tuple(Video(one, draw(WORDS), draw(frames), draw(frames)) for one in names)
    emotion = st.none() | WORDS.map(normalise_emotion).filter(
        lambda one: one and normalise_emotion(one) == one
    )
    interval = st.builds(
        lambda video, ends, kind, emotion: Interval(video, *sorted(ends), kind, emotion),
        st.sampled_from(names),
        st.tuples(FRAMES, FRAMES),
        st.sampled_from(["micro", "macro"]),
        emotion,
    )
    intervals = tuple(draw(st.lists(interval, max_size=5, unique=True)))
    notes = tuple(draw(st.lists(WORDS.filter(bool), max_size=2)))
    return Truth(videos, intervals, notes, synthetic=draw(st.booleans()))


@given(truths())
def test_every_truth_that_can_be_written_comes_back(truth):
    with tempfile.TemporaryDirectory() as folder:
        path = write_truth(Path(folder) / "truth.csv", truth)
        back = read_truth(path)
        again = write_truth(Path(folder) / "again.csv", back)
        assert again.read_bytes() == path.read_bytes()
    assert set(back.videos) == set(truth.videos)
    assert len(back.intervals) == len(truth.intervals)
    assert set(back.intervals) == set(truth.intervals)
    assert (back.notes, back.synthetic) == (truth.notes, truth.synthetic)
    assert back.digest() == truth.digest()


def test_a_truth_of_nothing_comes_back(file):
    for synthetic in (False, True):
        nothing = Truth((), (), (), synthetic)
        assert read_truth(write_truth(file, nothing)) == nothing


@pytest.mark.parametrize(
    ("truth", "match"),
    [
        (Truth((Video("c/a b"),), ()), "'c/a b' is no name of a video"),
        (Truth((Video("c/a\ufeff"),), ()), "would not be read back"),
        (Truth((Video("c/a", " s"),), ()), "The subject ' s' would not be read back"),
        (Truth((Video("c/a"),), (Interval("c/a", -1, 2),)), "onset -1 is below zero"),
        (Truth((Video("c/a"),), (Interval("c/a", 1, 2, "micro", "Happy"),)), "as 'happiness'"),
        (Truth((Video("c/a"),), (), ("two\nlines",)), "The note 'two.*would not be read back"),
    ],
)
def test_what_a_file_cannot_keep_is_said(file, truth, match):
    with pytest.raises(ManifestError, match=match):
        write_truth(file, truth)
    assert not file.exists()


def test_remarks_on_rows_are_no_notes_on_the_whole(file):
    text = "video,onset,offset,type,Notes\nv1,5,9,micro,glasses\n,,,,half of it\n"
    file.write_text(text, encoding="utf-8")
    assert read_truth(file).notes == ("half of it",)


def test_a_synthetic_truth_says_so_in_every_line(file):
    write_truth(file, Truth(TRUTH.videos, TRUTH.intervals, synthetic=True))
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0].endswith(",synthetic")
    assert all(line.endswith(",yes") for line in lines[1:])
    assert read_truth(file).synthetic


def test_a_truth_of_another_program_needs_four_columns(file):
    file.write_text("Offset;Video;Type;Onset\n9;v1;Micro-expression;5\n;v2;;\n", encoding="utf-8")
    truth = read_truth(file)
    assert truth.videos == (Video("v1"), Video("v2"))
    assert truth.intervals == (Interval("v1", 5, 9, "micro"),)


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("a b,s,1,2,micro,", "'a b' is no name of a video"),
        (",s,1,2,micro,", "'' is no name of a video"),
        ("samm_lv/006_1,other,80,90,micro,", "given to subject 'other', further up"),
        (",s,,,,", "'' is no name of a video"),
        ("v,s,1,,micro,", "'offset' must be a whole number, not ''"),
        ("v,s,1,2,,", "'' is neither micro nor macro"),
        ("samm_lv/006_1,samm_lv/006,10,19,micro,Anger", "repeats line 3"),
    ],
)
def test_bad_lines_of_a_truth(file, line, match):
    file.write_text(TEXT + line + "\n", encoding="utf-8")
    with pytest.raises(AnnotationError, match=match) as error:
        read_truth(file)
    assert "spotted.csv, line 6" in str(error.value)


def test_a_video_has_the_same_frames_in_every_line(file):
    text = "video,onset,offset,type,first,last\nv,1,2,micro,1,90\nv,4,5,micro,,90\n"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(AnnotationError, match="'v' has frames - to 90, further up 1 to 90"):
        read_truth(file)


def test_a_spotted_interval_with_two_emotions_is_a_repetition(file):
    text = "video,onset,offset,type,emotion\n006_1,4,8,micro,anger\n006_1,4,8,micro,fear\n"
    with pytest.raises(AnnotationError, match="repeats line 2: micro, frames 4 to 8"):
        predictions(file, text)


def test_predictions_with_and_without_corpus_in_any_order(file):
    text = "offset,score,onset,type,video,Emotion\n"
    text += "12.0,0.9,3,Micro,006_1,Happy\n30,0.1,20,macro-expression,CASME_SQ/15_0101Disgust,\n"
    assert predictions(file, text) == [
        Interval("samm_lv/006_1", 3, 12, "micro", "happiness"),
        Interval("casme_sq/15_0101disgust", 20, 30, "macro", None),
    ]


def test_the_column_type_may_be_left_out_where_one_type_is_scored(file):
    text = "video,onset,offset\n006_5,1,2\n"
    assert predictions(file, text, types=["macro"]) == [Interval("samm_lv/006_5", 1, 2, "macro")]
    with pytest.raises(AnnotationError, match="no column 'type', and both types"):
        predictions(file, text)


def test_headings_and_no_rows_mean_that_nothing_was_spotted(file):
    assert predictions(file, "video,onset,offset,type\n") == []


def test_a_name_in_two_corpora_needs_its_corpus(file):
    truth = Truth((Video("a/v1"), Video("b/v1")), ())
    file.write_text("video,onset,offset,type\nv1,1,2,micro\n", encoding="utf-8")
    with pytest.raises(AnnotationError, match="not unique: a/v1, b/v1"):
        read_predictions(file, truth)
    file.write_text("video,onset,offset,type\nb/v1,1,2,micro\n", encoding="utf-8")
    assert read_predictions(file, truth)[0].video == "b/v1"


@pytest.mark.parametrize(
    ("line", "match", "place"),
    [
        ("006_2,1,2,micro", "no video '006_2'. Did you mean '006_", "column 1 ('video')"),
        ("006_1,9,2,micro", "onset 9 lies after the offset 2", "line 3"),
        ("006_1,-4,2,micro", "onset -4 is below zero", "column 2 ('onset')"),
        ("006_1,x,2,micro", "'onset' must be a whole number, not 'x'", "column 2 ('onset')"),
        ("006_1,1.5,2,micro", "must be a whole number, not '1.5'", "column 2 ('onset')"),
        ("006_1,1,2,blink", "'blink' is neither micro nor macro", "column 4 ('type')"),
        ("006_1,4,8,micro", "The line repeats line 2: micro, frames 4 to 8", "line 3"),
        ("samm_lv/006_1,4,8.0,micro", "The line repeats line 2", "line 3"),
    ],
)
def test_a_bad_line_is_named(file, line, match, place):
    with pytest.raises(AnnotationError) as error:
        predictions(file, f"video,onset,offset,type\n006_1,4,8,micro\n{line}\n")
    assert match in str(error.value)
    assert place in str(error.value)
    assert "spotted.csv, line 3" in str(error.value)


def test_the_same_frames_of_another_type_are_no_repetition(file):
    text = "video,onset,offset,type\n006_1,4,8,micro\n006_1,4,8,macro\n"
    assert len(predictions(file, text)) == 2


def test_all_bad_lines_are_counted_and_the_first_is_explained(file):
    rows = ["006_1,1,2,micro", *(f"nowhere{i},1,2,micro" for i in range(8))]
    with pytest.raises(AnnotationError, match="8 lines cannot be read") as error:
        predictions(file, "video,onset,offset,type\n" + "\n".join(rows))
    assert "the others are lines 4, 5, 6, 7, 8 and 2 more" in str(error.value)
    assert "'nowhere0'" in str(error.value)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("video,onset,type\n006_1,1,micro\n", "lacks the column 'offset'"),
        ("video,onset,offset,types\n006_1,1,2,micro\n", "'types'. Did you mean 'type'"),
        ("", "holds the headings"),
        ("video,onset,onset,offset\n", "stands twice"),
    ],
)
def test_bad_headings(file, text, match):
    with pytest.raises(AnnotationError, match=match):
        predictions(file, text)


def test_a_log_has_a_line_for_every_interval(file, tmp_path):
    spotted = [
        Interval("samm_lv/006_1", 11, 19, "micro"),
        Interval("samm_lv/006_1", 1, 4, "micro"),
        Interval("samm_lv/006_5", 2, 3, "micro"),
    ]
    log = tmp_path / "logs" / "log.txt"
    write_log(log, score_spotting(TRUTH, spotted, types=["micro"]))
    assert log.read_text(encoding="utf-8").splitlines() == [
        "casme_sq/15_0101disgust 5 9 - - FN",
        "samm_lv/006_1 - - 1 4 FP",
        "samm_lv/006_1 10 19 11 19 TP",
        "samm_lv/006_5 - - 2 3 FP",
    ]
    write_log(log, score_spotting(TRUTH, spotted))
    assert "samm_lv/006_1 50 70 - - FN macro" in log.read_text(encoding="utf-8").splitlines()
