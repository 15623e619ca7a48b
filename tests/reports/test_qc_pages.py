from __future__ import annotations

import base64
import dataclasses
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from mer_prep.errors import ConfigError, ManifestError
from mer_prep.manifest import Clip, ImportRecord
from mer_prep.manifest_files import write_manifest
from mer_prep.pictures import flow_colours
from mer_prep.reports import qc_pictures
from mer_prep.reports.qc import Selection, write_qc
from mer_prep.reports.qc_card import key_frames
from mer_prep.reports.qc_clips import ClipRecord, clip_records, figure, made_before_warnings
from mer_prep.reports.qc_results import find_results
from mer_prep.store.hdf5 import open_hdf5
from mer_prep.store.seal import seal
from tests.command_line import call
from tests.reports.conftest import CLIPS, FAILED, LEFT_OUT, NOTICED, WARNED, import_toy
from tests.reports.prepared import FLOW, SIDE, face, prepare
from tests.shards import strip_seal


def page_of(workspace, **settings):
    summary = write_qc(workspace, "toy", workspace.reports, **settings)
    return summary, summary.path.read_text(encoding="utf-8")


def cards_of(text):
    found = re.findall(r"<article.*?</article>", text, re.DOTALL)
    return {re.search(r"<h3.*?>(?:<a.*?>)(.*?)</a>", card).group(1): card for card in found}


def panels_of(card):
    found = re.findall(r'<figure class="(\w+)">\n(.*?)</figure>', card, re.DOTALL)
    return dict(found)


def picture_in(html):
    data = re.search(r"data:image/webp;base64,([^\"]*)", html).group(1)
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def records_of(workspace, **selection):
    results = find_results(workspace, "toy", settings={})
    found = clip_records(results, workspace.record("toy").findings, **selection)
    return {record.clip.clip_id: record for record in found}


def test_the_states_of_clips(finished):
    records = records_of(finished)
    assert {clip_id: record.state for clip_id, record in records.items()} == {
        "toy/sub01/EP01_01": "good",
        WARNED: "warned",
        NOTICED: "warned",
        FAILED: "failed",
        LEFT_OUT: "left out",
        "toy/sub02/EP02_01": "good",
    }
    assert records[WARNED].warnings == (("align", "The head turns."),)
    assert records[NOTICED].warnings == (("import", "One frame <is> missing."),)
    assert records[FAILED].failure.message.startswith("No face was found.")
    assert [record.number for record in records.values()] == list(range(6))
    assert figure(records[WARNED], "jitter") == 0.125
    assert figure(records[FAILED], "jitter") is None
    assert made_before_warnings(list(records.values())) == 0


def test_clips_that_are_not_prepared(corpus):
    records = records_of(corpus)
    assert {record.state for record in records.values()} == {"pending", "warned"}
    assert find_results(corpus, "toy", settings={}).stages == ()
    prepare(corpus, "toy", ["align"], subjects=["toy/sub01"])
    records = records_of(corpus)
    assert records["toy/sub01/EP01_01"].state == "good"
    assert records[FAILED].pending == ("landmarks", "align")


def test_the_results_of_most_clips_are_shown_and_settings_choose_others(prepared):
    other = {"align": {"mode": "onset"}}
    prepare(prepared, "toy", ["flow"], settings=other, subjects=["toy/sub01"])
    results = find_results(prepared, "toy", settings={})
    assert [stage.name for stage in results.stages] == [
        *("landmarks", "align", "apex", "flow", "strain", "dynamic-image")
    ]
    assert {stage.settings for stage in results.stages} == {"defaults"}
    assert results.others == (("align", "align.mode=onset"), ("flow", "align.mode=onset"))
    asked = find_results(prepared, "toy", settings=other)
    assert [stage.name for stage in asked.stages] == ["landmarks", "align", "flow"]
    assert [stage.settings for stage in asked.stages] == [
        *("defaults", "align.mode=onset", "defaults")
    ]
    assert ("strain", "defaults") in asked.others
    assert ("landmarks", "defaults") not in asked.others


def test_frames_of_whole_recordings_are_a_setting_too(prepared):
    whole = {"source": {"frames": "all"}}
    prepare(prepared, "toy", ["flow"], settings=whole, subjects=["toy/sub01"])
    asked = find_results(prepared, "toy", settings=whole)
    assert {stage.settings for stage in asked.stages} == {"source.frames=all"}
    assert {stage.settings for stage in find_results(prepared, "toy", settings={}).stages} == {
        "defaults"
    }


def test_settings_that_nothing_was_made_with(prepared):
    with pytest.raises(ConfigError, match="was computed with these settings"):
        find_results(prepared, "toy", settings={"source": {"frames": "all"}})
    with pytest.raises(ConfigError, match="was computed with these settings"):
        find_results(prepared, "toy", settings={"align": {"size": 96}})
    with pytest.raises(ConfigError, match="strian"):
        find_results(prepared, "toy", settings={"strian": {"components": "tensor"}})
    with pytest.raises(ConfigError, match="sise"):
        find_results(prepared, "toy", settings={"align": {"sise": 96}})


def test_stale_results_are_not_shown(prepared, tmp_path):
    frame = tmp_path / "source" / "sub01" / "EP01_01" / "img9.png"
    image = cv2.imread(str(frame))
    assert cv2.imwrite(str(frame), 255 - image)
    records = records_of(prepared)
    assert records["toy/sub01/EP01_01"].state == "pending"
    # What has not changed of the subject is shown from the shard that is to be made again.
    assert records[WARNED].warnings == (("align", "The head turns."),)
    assert records[WARNED].files["flow"].is_file()


def test_every_panel_is_there_and_says_what_it_shows(page):
    summary, text = page
    cards = cards_of(text)
    assert list(cards) == [f"toy/{one[0]}/{one[1]}" for one in CLIPS]
    panels = panels_of(cards[WARNED])
    assert list(panels) == ["source", "aligned", "dynamic", "flow", "arrows", "strain", "curve"]
    assert "onset 8 (annotated), apex 10 (annotated), offset 12 (annotated)" in panels["source"]
    assert "jitter 0.12 px, head motion 1.50 px" in panels["aligned"]
    assert "frame 8 to 10; rim 0.50 px, mean 0.500 px, largest 0.50 px" in panels["flow"]
    assert "0 to 0.020, mean 0.0200, unitless; as stored" in panels["strain"]
    assert "confidence 0.75; spotted apex 1 frame early" in panels["curve"]
    assert all(re.search(r'alt="[^"]{10,}"', panels[name]) for name in list(panels)[:6])
    assert "The head turns." in cards[WARNED]
    assert "One frame &lt;is&gt; missing." in cards[NOTICED]
    assert "NoFaceError" in cards[FAILED]
    assert summary.states == {"good": 2, "warned": 2, "failed": 1, "left out": 1}
    assert (summary.clips, summary.subjects, summary.problems) == (6, 2, [])
    assert summary.bytes == summary.path.stat().st_size


def test_a_clip_without_an_annotated_apex_shows_the_spotted_one(page):
    _, text = page
    assert "apex 9 (spotted)" in panels_of(cards_of(text)[NOTICED])["source"]


def test_key_frames_are_annotated_or_those_of_the_flow_or_found():
    clip = Clip("a/b/c", "a", "b", "c", "/", (5, 6, 7, 8, 9), onset=6, offset=20)
    spotted, flow = {"spotted_apex": 8}, {"apex_number": 7, "apex_source": "midpoint"}

    def shown(**facts):
        record = ClipRecord(clip, 0, facts=facts)
        return [
            (one.name, one.index, one.number, one.source)
            for one in key_frames(record, [6, 7, 8, 9])
        ]

    onset, offset = ("onset", 0, 6, "annotated"), ("offset", 3, 9, "last frame")
    assert shown() == [onset, ("apex", 1, 7, "midpoint"), offset]
    assert shown(apex=spotted) == [onset, ("apex", 2, 8, "spotted"), offset]
    assert shown(apex=spotted, flow=flow) == [onset, ("apex", 1, 7, "midpoint"), offset]
    clip = dataclasses.replace(clip, apex=9, apex_source="annotated", offset=9)
    assert shown(apex=spotted, flow=flow)[1:] == [
        ("apex", 3, 9, "annotated"),
        ("offset", 3, 9, "annotated"),
    ]


def test_the_flow_has_the_colours_of_its_wheel(page):
    _, text = page
    shown = picture_in(panels_of(cards_of(text)[WARNED])["flow"])
    flow = np.float32(FLOW)[:, None, None]
    expected = flow_colours(flow, max_px=0.5)[0, 0]
    assert np.abs(shown.astype(int) - expected).max() <= 4


def test_aligned_frames_stand_side_by_side(page):
    _, text = page
    strip = picture_in(panels_of(cards_of(text)[WARNED])["aligned"])
    assert strip.shape == (qc_pictures.TILE, 3 * qc_pictures.TILE, 3)
    # Onset, apex and offset are frames 0, 2 and 4, of grey 90, 110 and 130.
    middles = strip[72, [72, 72 + 144, 72 + 288], 0].astype(int)
    assert np.abs(middles - [90, 110, 130]).max() <= 2


def test_landmarks_lie_where_they_are():
    path = qc_pictures.landmark_path(face(SIDE, SIDE), shift=100)
    assert path.count("M") == len(qc_pictures.CONTOURS)
    assert path.count("Z") == 4
    points = np.array([list(map(float, one.split())) for one in re.split("[MLZ]+", path) if one])
    np.testing.assert_allclose(points, face(SIDE, SIDE) + np.array([100.5, 0.5]), atol=0.051)
    assert sorted(i for first, last, _ in qc_pictures.CONTOURS for i in range(first, last)) == [
        *range(68)
    ]


def test_a_dynamic_image_is_grey_where_nothing_changes():
    dynamic = np.zeros((SIDE, SIDE, 3), np.float32)
    dynamic[: SIDE // 2] = 3
    picture, largest = qc_pictures.dynamic_picture(dynamic)
    assert largest == 3
    assert picture[0, 0, 0] == 255
    assert picture[-1, 0, 0] == 128
    flow = np.zeros((SIDE, SIDE, 2), np.float32)
    flow[..., 0], flow[..., 1] = 3, -4
    picture, largest = qc_pictures.dynamic_picture(flow)
    assert (picture.shape, largest) == ((144, 144, 3), 5)


def test_strain_is_brighter_where_there_is_more():
    strain = np.repeat(np.linspace(0, 0.04, SIDE)[None], SIDE, axis=0)
    picture = qc_pictures.strain_picture(strain, largest=0.04)
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[70].astype(int)
    assert (np.diff(grey[::8]) > 0).all()


def test_a_page_without_faces_shows_none(prepared):
    _, text = page_of(prepared, faces=False)
    for card in cards_of(text).values():
        panels = panels_of(card)
        assert "dynamic" not in panels
        for name in ("source", "aligned"):
            if name in panels:
                assert "<img" not in panels[name]
                assert 'aria-label="Landmarks alone.' in panels[name]
    drawn = picture_in(panels_of(cards_of(text)[WARNED])["arrows"])
    # Paper and dark arrows, no pale face of grey 90 in between.
    assert np.median(drawn) >= 248


def test_what_is_not_computed_is_computed_for_the_page_or_left_out(corpus):
    prepare(corpus, "toy", ["flow"])
    _, text = page_of(corpus)
    panels = panels_of(cards_of(text)["toy/sub01/EP01_01"])
    assert list(panels) == ["source", "aligned", "flow", "arrows", "strain", "curve"]
    # A uniform flow has no strain.
    assert "0 to 0.010, mean 0.0000, unitless; computed for this page" in panels["strain"]
    assert "grey-value differences" in panels["curve"]
    assert "apex 10 (midpoint)" in panels_of(cards_of(text)[NOTICED])["source"]


def test_a_page_straight_after_the_import_shows_the_frames(corpus):
    _, text = page_of(corpus)
    assert "NOT PREPARED" in text
    panels = panels_of(cards_of(text)["toy/sub01/EP01_01"])
    assert list(panels) == ["source"]
    assert picture_in(panels["source"]).shape == (144, 432, 3)


def test_banners_say_what_must_be_said(prepared, page):
    assert "RESTRICTED" not in page[1]
    import_toy(prepared, Path(prepared.record("toy").root), restricted=True, synthetic=True)
    _, text = page_of(prepared)
    assert "carries faces of a licensed corpus. Do not share it" in text
    assert "<code>mer-prep synth</code>" in text
    assert text.index("RESTRICTED") < text.index("<h1>")
    assert "shows no faces, but landmarks" in page_of(prepared, faces=False)[1]


def test_published_counts_stand_beside_those_found(prepared):
    clips = prepared.clips("toy")
    record = ImportRecord("toy", "casme2", clips[0].root, annotation_version="B")
    write_manifest(prepared.manifests, clips, record)
    _, text = page_of(prepared)
    assert "255 clips are published, 6 were found" in text
    (row,) = re.findall(r'<tr><th scope="row">disgust</th>.*?</tr>', text)
    assert re.findall(r">(\d+)</td>", row)[:2] == ["2", "63"]
    assert 'class="expected"' in text


def test_processes_draw_the_same_cards(prepared, page):
    assert cards_of(page_of(prepared, jobs=2)[1]) == cards_of(page[1])


def test_progress_counts_every_clip(prepared):
    seen = []
    page_of(prepared, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 6) for done in range(1, 7)]


def test_a_frame_that_is_gone_is_said_and_the_rest_is_drawn(prepared, tmp_path, monkeypatch):
    records = list(records_of(prepared).values())
    monkeypatch.setattr("mer_prep.reports.qc.clip_records", lambda *_, **__: records)
    (tmp_path / "source" / "sub01" / "EP01_02" / "img10.png").unlink()
    summary, text = page_of(prepared)
    assert [one.partition(":")[0] for one in summary.problems] == [WARNED]
    card = cards_of(text)[WARNED]
    assert "Not drawn." in card
    assert list(panels_of(card)) == ["aligned", "dynamic", "flow", "arrows", "strain", "curve"]


def test_a_damaged_shard_is_said_and_the_rest_is_drawn(prepared):
    records = records_of(prepared)
    path = records[WARNED].files["flow"]
    with open_hdf5(path) as file:
        offset = file["EP01_02"]["flow"].id.get_chunk_info(0).byte_offset
    strip_seal(path)  # which would tell before the dataset is read
    with open(path, "r+b", buffering=0) as file:
        file.seek(offset)
        file.write(b"\0" * 8)
        seal(file)
    summary, text = page_of(prepared)
    assert any(WARNED in problem and "damaged" in problem for problem in summary.problems)
    assert "aligned" in panels_of(cards_of(text)[WARNED])
    assert "flow" in panels_of(cards_of(text)["toy/sub02/EP02_01"])
    path.write_bytes(b"torn")
    _, text = page_of(prepared)
    assert "flow" not in panels_of(cards_of(text)[WARNED])
    assert "aligned" in panels_of(cards_of(text)[WARNED])


def test_a_selection_has_a_page_of_its_own(prepared):
    summary, text = page_of(prepared, selection=Selection(clips=(FAILED,)))
    assert summary.path.name == "qc-toy-selection.html"
    assert list(cards_of(text)) == [FAILED]
    assert "SELECTION" in text
    _, text = page_of(prepared, selection=Selection(subjects=("toy/sub01",)))
    assert len(cards_of(text)) == 3
    with pytest.raises(ManifestError, match=r"no clip .*Did you mean"):
        page_of(prepared, selection=Selection(clips=("toy/sub01/EP01_0",)))
    with pytest.raises(ManifestError, match="no subject 'toy/sub9'"):
        page_of(prepared, selection=Selection(subjects=("toy/sub9",)))


def test_a_corpus_whose_folder_is_gone(prepared, tmp_path):
    (tmp_path / "source").rename(tmp_path / "moved")
    with pytest.raises(ManifestError, match="folder of corpus 'toy' is gone"):
        page_of(prepared)


def test_the_command_writes_pages_and_says_where(prepared, tmp_path):
    out = tmp_path / "pages"
    result = call("qc", "-w", prepared.root, "--out", out, "--jobs", 1)
    assert "toy: 6 clips of 2 subjects, 1 failed, 2 with warnings, 0 not prepared;" in result.output
    assert result.output.splitlines()[-1].startswith("qc: 1 page, 6 clips, 0 not drawn in full,")
    assert [path.name for path in out.iterdir()] == ["qc-toy.html"]
    result = call("qc", "toy", "-w", prepared.root, "--clip", FAILED, "--jobs", 1, "--json")
    (facts,) = json.loads(result.stdout)
    assert facts["states"] == {"failed": 1}
    assert Path(facts["path"]) == prepared.reports / "qc-toy-selection.html"


def test_the_command_says_what_could_not_be_drawn(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr("mer_prep.reports.qc.clip_records", _with_lost_frames(prepared, tmp_path))
    result = call("qc", "-w", prepared.root, "--jobs", 1, code=3)
    assert f"not drawn: {WARNED}: source:" in result.output


def _with_lost_frames(prepared, tmp_path):
    records = list(records_of(prepared).values())
    (tmp_path / "source" / "sub01" / "EP01_02" / "img10.png").unlink()
    return lambda *_, **__: records


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--subject", "toi/sub01"], "'toi' is not among the workspace.*did you mean 'toy'"),
        (["--clip", "toy/sub01/EP99"], "no clip 'toy/sub01/EP99'"),
        (["--set", "flow.method=dis"], "computed with these settings"),
        (["toi"], "Corpus 'toi' is not in the workspace"),
    ],
)
def test_what_the_command_refuses(prepared, options, message):
    with pytest.raises((ConfigError, ManifestError), match=f"(?is){message}"):
        call("qc", *options, "-w", prepared.root, "--jobs", 1)


def test_charts_of_a_page_are_well_formed(page):
    _, text = page
    drawn = re.findall(r'<div class="chart">(<svg.*?</svg>)', text, re.DOTALL)
    assert len(drawn) > 5
    for svg in drawn:
        assert ElementTree.fromstring(svg).get("aria-label")
