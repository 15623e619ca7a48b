from __future__ import annotations

import base64
import hashlib
import re
import sys

import pytest

from mer_prep.errors import DependencyError, LockedError, MerPrepError
from mer_prep.reports import markup
from mer_prep.reports.markup import Html, number, render
from mer_prep.reports.page import Banner, Page, Section, check_self_contained, write_page
from mer_prep.store import disk
from mer_prep.store.lock import Lock


def small_page(**changes):
    settings = {
        "title": "A <title>",
        "banners": [Banner("synthetic", "SYNTHETIC", "made up & marked")],
        "sections": [
            Section("first", "First", Html("<p>one</p>"), note="2 < 3"),
            Section("second", "Second", (Html(f"<p>{word}</p>") for word in ("two", "three"))),
        ],
        "keys": [("j k", "next and previous")],
    }
    return Page(**{**settings, **changes})


def text_of(page, tmp_path):
    path = tmp_path / "reports" / "page.html"
    size = write_page(page, path)
    assert path.stat().st_size == size
    assert [one.name for one in path.parent.iterdir()] == ["page.html"]
    return path.read_text(encoding="utf-8")


def test_a_page_has_its_parts_in_order_and_texts_are_escaped(tmp_path):
    text = text_of(small_page(), tmp_path)
    assert "<h1>A &lt;title&gt;</h1>" in text
    assert "made up &amp; marked" in text
    assert "2 &lt; 3" in text
    places = [text.index(f"<p>{word}</p>") for word in ("one", "two", "three")]
    assert places == sorted(places)
    assert text.index("SYNTHETIC") < text.index("<h1>")
    assert '<a href="#second">Second</a>' in text
    assert "<kbd>j</kbd> <kbd>k</kbd>" in text


def test_the_policy_of_a_page_allows_its_own_script_and_style_alone(tmp_path):
    text = text_of(small_page(), tmp_path)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1)
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag in ("style", "script"):
        (inner,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize(
    "piece",
    [
        '<img src="data:image/webp;base64,AAAA" alt="">',
        '<a href="https://doi.org/10.1">paper</a>',
        '<a href="#here">here</a>',
        '<svg><use href="#wheel"/><path fill="url(#stripes)"/></svg>',
        "<p>see url(https://example.org) and &lt;script&gt;</p>",
    ],
)
def test_what_a_page_may_hold(piece):
    check_self_contained(piece)


@pytest.mark.parametrize(
    "piece",
    [
        '<img src="https://example.org/a.png">',
        "<IMG SRC=//example.org/a.png>",
        '<img src="clip.png">',
        '<img srcset="a.png 2x">',
        '<video poster="file:///a.png"></video>',
        "<script>1</script>",
        '<link rel="stylesheet" href="data:,">',
        '<iframe src="data:,"></iframe>',
        '<a href="javascript:alert(1)">x</a>',
        '<p onclick="x()">',
        '<p style="background: red">',
        "<style>p { background: url(https://example.org/a.png) }</style>",
        "<style>@import 'a.css';</style>",
        '<svg><image xlink:href="http://example.org/a.png"/></svg>',
        '<svg><path fill="url(https://example.org/a.svg#b)"/></svg>',
        '<meta http-equiv="refresh" content="0; url=https://example.org">',
    ],
)
def test_what_would_reach_outside_is_refused(piece):
    with pytest.raises(MerPrepError, match="reach outside"):
        check_self_contained(f"<div>{piece}</div>")


def test_a_page_that_would_reach_outside_leaves_the_old_one(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old", encoding="utf-8")
    bad = Section("bad", "Bad", iter([Html("<p>good</p>"), Html('<img src="x.png">')]))
    with pytest.raises(MerPrepError, match="reach outside"):
        write_page(small_page(sections=[bad]), path)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_toolbar_is_checked_too(tmp_path):
    with pytest.raises(MerPrepError, match="reach outside"):
        write_page(small_page(toolbar=Html('<form action="https://a.b">')), tmp_path / "a.html")


def test_a_full_disk_leaves_the_old_page(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old", encoding="utf-8")

    def refuse(call):
        if call.name == "write" and call.path.name.startswith("page.html."):
            raise OSError(28, "No space left on device")

    with disk.observed(refuse), pytest.raises(OSError, match="No space"):
        write_page(small_page(), path)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_removed_and_a_live_one_is_respected(tmp_path):
    path = tmp_path / "page.html"
    left = tmp_path / "page.html.0123456789ab.partial"
    left.write_text("torn", encoding="utf-8")
    with Lock(path), pytest.raises(LockedError):
        write_page(small_page(), path)
    assert left.exists()
    write_page(small_page(), path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_jinja_is_named_with_what_brings_it(monkeypatch):
    markup._environment.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    try:
        with pytest.raises(DependencyError) as caught:
            markup.check_templates()
    finally:
        markup._environment.cache_clear()
    assert 'pip install "mer-prep[report]"' in caught.value.hint


def test_anchors_and_banners_are_checked():
    with pytest.raises(ValueError, match="no anchor"):
        Section("a b", "A", Html())
    with pytest.raises(MerPrepError, match="banner"):
        Banner("loud", "A", "b")


def test_a_template_without_its_values_is_an_error():
    import jinja2

    with pytest.raises(jinja2.UndefinedError):
        render("section_head.html")


@pytest.mark.parametrize(
    ("value", "text"), [(1234567, "1,234,567"), (2.0, "2"), (0.123456, "0.123"), (12.5, "12.5")]
)
def test_numbers_for_people(value, text):
    assert number(value) == text
