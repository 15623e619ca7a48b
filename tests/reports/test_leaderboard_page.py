"""The page of a leaderboard: what it says, and in a browser, where there is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("jinja2")

from mer_prep.models import mol
from mer_prep.reports.leaderboard import leaderboard_page
from mer_prep.reports.page import write_page
from tests.bars import SMALLEST
from tests.boards import toy_board
from tests.reports.browsing import Tab, launched, needs_browser


@pytest.fixture(scope="module")
def facts(tmp_path_factory) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        # The toys are these presets, so that what is published of them belongs to them.
        for preset in mol.PRESETS:
            patch.setitem(mol.PRESETS, preset, SMALLEST)
        return toy_board(tmp_path_factory.mktemp("board"))


@pytest.fixture(scope="module")
def page(facts) -> str:
    return "".join(leaderboard_page(facts).pieces())


def section(text: str, name: str) -> str:
    found = re.search(rf'<section id="{name}".*?</section>', text, re.S)
    assert found
    return found.group()


def test_the_table_has_every_model_and_always_the_largest_class(page):
    board = section(page, "board")
    names = re.findall(r'<th scope="row" data-value="([^"]*)"', board)
    assert names == ["mol:paper", "mol:tiny", "mol:code", "always “still”"]
    # Of the second 6 of 9 clips are right.
    assert 'data-value="0.6666666666666666">0.667' in board
    assert board.count("<strong") == 1
    assert 'data-value="mol:code">mol:code <strong class="bad">LEAKY</strong>' in board
    assert "not known to beat chance" not in board.partition('data-value="mol:tiny"')[0]
    assert "not stated if leak-free" in board


def test_marks_stand_on_top(facts, page):
    banners = re.findall(r'<p class="banner \w+"><strong>([^<]*)', page)
    assert banners == ["LEAKY", "INCOMPLETE", "SYNTHETIC"]
    clean = facts | {"synthetic": False, "leaky": False, "failed": {}}
    text = "".join(leaderboard_page(clean).pieces())
    assert 'class="banner' not in text
    assert "licensed corpora" not in text


def test_the_test_the_control_and_the_published_figures(facts, page):
    against = section(page, "against")
    (better,) = re.findall(r"mol:paper</th>(.*?)</tr>", against)
    cells = re.findall(r">([^<]*)</td>", better)
    # 3 clips that only the better has right: p = 2 / 2^3.
    assert cells == ["+33.3", "3", "0", "0.25", "0.25"]
    assert "mol:code" not in against
    found = facts["entries"][0]["control"]["scores"]["uf1"]
    assert f'data-value="{found}"' in section(page, "board")
    published = section(page, "published")
    assert published.count("<tr class=") == 4, "presets of a model have them in common"
    assert "not stated if leak-free" in published
    assert "Table VI" in published
    assert "Clips are &lt;missing&gt;." in section(page, "failed")


def test_without_controls_tests_and_published_figures_nothing_is_said_of_them(facts):
    entries = [
        one | {"control": None, "against": None, "published": []} for one in facts["entries"]
    ]
    text = "".join(leaderboard_page(facts | {"against": None, "entries": entries}).pieces())
    assert "control UF1" not in text
    assert 'id="against"' not in text
    assert "Nothing is published of these models" in section(text, "published")


def test_what_was_compared_is_stated(facts, page):
    what = section(page, "what")
    for said in ("megc2019-3", "b" * 16, facts["passport"]["folds"][:16], "run worse"):
        assert said in what


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def path(facts, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("page") / "leaderboard.html"
    write_page(leaderboard_page(facts), target)
    return target


@needs_browser
def test_a_heading_sorts_both_ways_and_what_is_not_known_stays_last(browser, path):
    opened = Tab(browser, path, width=1400)
    tab = opened.page

    def order() -> list[str]:
        return tab.evaluate(
            "() => [...document.querySelectorAll('#models tbody tr')]"
            ".map((row) => row.cells[0].dataset.value)"
        )

    by_uf1 = ["mol:paper", "mol:code", "mol:tiny", "always “still”"]
    heading = tab.locator("#models th", has_text="UF1").first
    assert heading.get_attribute("aria-sort") == "descending"
    heading.locator("button").click()
    assert order() == by_uf1[::-1]
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.locator("button").click()
    assert order() == by_uf1
    tab.locator("#models th", has_text="model").locator("button").focus()
    tab.keyboard.press("Enter")
    assert order() == ["always “still”", "mol:code", "mol:paper", "mol:tiny"]
    assert heading.get_attribute("aria-sort") is None
    control = tab.locator("#models th", has_text="control UF1").locator("button")
    for _ in range(2):
        control.click()
        assert order()[0] == "mol:paper"
    opened.assert_named()
    opened.close()


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_widths_and_themes(browser, path, width, scheme):
    tab = Tab(browser, path, width=width, scheme=scheme)
    tab.assert_readable(width=width, scheme=scheme, least=100)
    stroke = tab.page.evaluate("getComputedStyle(document.querySelector('circle.span')).stroke")
    assert stroke == ("rgb(111, 184, 240)" if scheme == "dark" else "rgb(0, 98, 163)")
    tab.close()
