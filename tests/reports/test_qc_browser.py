"""A quality-control page in a real browser; skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reports.browsing import Tab, launched, needs_browser
from tests.reports.conftest import FAILED, LEFT_OUT, NOTICED, WARNED

pytestmark = needs_browser

ALL = 6


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as chromium:
        yield chromium


def shown_in(tab: Tab) -> list[str]:
    """Return the clips in sight of the filters, in the order on the page."""
    tab.settle()
    found: list[str] = tab.page.evaluate(
        """() => [...document.querySelectorAll(".card")]
          .filter((one) => one.offsetParent)
          .map((one) => one.querySelector("h3").textContent)"""
    )
    return found


@pytest.fixture
def tab(browser: Any, page: tuple[Any, str]) -> Iterator[Tab]:
    opened = Tab(browser, page[0].path, width=1400)
    yield opened
    opened.close()


def test_every_picture_is_seen(tab: Tab) -> None:
    widths = tab.page.evaluate(
        """async () => {
          const widths = [];
          for (const card of document.querySelectorAll(".card")) {
            card.scrollIntoView();
            await new Promise((next) => setTimeout(next, 150));
            const pictures = [...card.querySelectorAll("img")];
            await Promise.all(pictures.map((one) => one.decode()));
            widths.push(pictures.map((one) => one.naturalWidth));
          }
          return widths;
        }"""
    )
    whole = [432, 432, 144, 144, 288, 144]
    # Of the clips without results there are source frames alone.
    assert widths == [whole, whole, whole, [432], [432], whole]


def test_panels_far_away_wait_in_their_template(tab: Tab) -> None:
    tab.page.set_viewport_size({"width": 400, "height": 300})
    tab.page.evaluate("scrollTo(0, 0)")
    tab.settle()
    last = "document.querySelector('#clip-5 .panels').children.length"
    assert tab.page.evaluate(last) == 1
    tab.page.evaluate("document.querySelector('#clip-5').scrollIntoView()")
    tab.settle()
    assert tab.page.evaluate(last) > 5
    tab.page.evaluate("scrollTo(0, 0)")
    tab.settle()
    assert tab.page.evaluate(last) == 1


def test_filters_and_their_count(tab: Tab) -> None:
    assert len(shown_in(tab)) == ALL
    tab.page.select_option("#state", "remarks")
    assert set(shown_in(tab)) == {WARNED, NOTICED, FAILED}
    assert tab.page.inner_text("#count") == "3 of 6 clips"
    tab.page.select_option("#subject", "sub02")
    assert shown_in(tab) == [FAILED]
    # A subject without a clip in sight has no heading either.
    assert not tab.page.is_visible("#subject-0")
    tab.page.click("#reset")
    assert tab.page.inner_text("#count") == "6 clips"
    tab.page.select_option("#class", "surprise")
    assert shown_in(tab) == [LEFT_OUT, "toy/sub02/EP02_01"]
    tab.page.click("#reset")
    tab.page.fill("#search", "HEAD turns")
    assert shown_in(tab) == [WARNED]
    tab.page.fill("#search", "no such thing")
    assert shown_in(tab) == []
    tab.page.keyboard.press("Escape")
    tab.page.keyboard.press("0")
    assert len(shown_in(tab)) == ALL


def test_sorting_and_back(tab: Tab) -> None:
    before = shown_in(tab)
    tab.page.select_option("#sort", "state")
    assert shown_in(tab)[:3] == [FAILED, WARNED, NOTICED]
    tab.page.select_option("#sort", "jitter")
    # What has no figure comes last.
    assert shown_in(tab)[-2:] == [FAILED, LEFT_OUT]
    tab.page.select_option("#sort", "")
    assert shown_in(tab) == before
    assert (
        tab.page.eval_on_selector("#subject-1", "one => one.querySelectorAll('.card').length") == 3
    )


def test_keys(tab: Tab) -> None:
    focused = "document.activeElement.id"
    tab.page.keyboard.press("j")
    assert tab.page.evaluate(focused) == "clip-0"
    tab.page.keyboard.press("j")
    tab.page.keyboard.press("ArrowDown")
    tab.page.keyboard.press("k")
    assert tab.page.evaluate(focused) == "clip-1"
    tab.page.keyboard.press("/")
    assert tab.page.evaluate(focused) == "search"
    tab.page.keyboard.type("jkw?")
    assert tab.page.input_value("#search") == "jkw?"
    assert not tab.page.is_visible("#help")
    tab.page.fill("#search", "")
    tab.page.keyboard.press("Escape")
    tab.page.keyboard.press("?")
    assert tab.page.is_visible("#help")
    tab.page.keyboard.press("j")
    tab.page.keyboard.press("Escape")
    assert not tab.page.is_visible("#help")
    tab.page.keyboard.press("w")
    assert len(shown_in(tab)) == 3
    tab.page.keyboard.press("l")
    assert tab.page.get_attribute("#landmarks", "aria-pressed") == "false"
    assert not tab.page.is_visible("#clip-1 .source .landmarks")
    tab.page.keyboard.press("t")
    assert tab.page.get_attribute("html", "data-theme") == "light"


def test_a_link_reaches_a_card_that_a_filter_hides(tab: Tab) -> None:
    tab.page.select_option("#class", "surprise")
    tab.settle()
    tab.page.evaluate("location.hash = '#clip-3'")
    tab.settle()
    assert tab.page.inner_text("#clip-3 h3") == FAILED
    assert tab.page.is_visible("#clip-3")


def test_names_for_those_who_do_not_see(tab: Tab) -> None:
    tab.look_at_everything()
    tab.assert_named()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_widths_and_themes(browser: Any, page: tuple[Any, str], width: int, scheme: str) -> None:
    tab = Tab(browser, page[0].path, width=width, scheme=scheme)
    tab.look_at_everything()
    tab.assert_readable(width=width, scheme=scheme, least=200)
    tab.close()


def test_the_policy_refuses_what_a_page_should_not_hold(
    browser: Any, page: tuple[Any, str], tmp_path: Path
) -> None:
    path = tmp_path / "tampered.html"
    bad = '<img src="https://example.invalid/a.png" alt="x"><script>document.title = 1</script>'
    path.write_text(page[1].replace("<main", bad + "<main", 1), encoding="utf-8")
    tab = Tab(browser, path, width=1000)
    tab.settle()
    assert any("Content Security Policy" in text for text in tab.complaints)
    assert tab.page.title() == "Quality control: toy"
    (refused,) = [one for one in tab.requests if one.url.startswith("https:")]
    assert refused.failure == "csp"
    tab.page.close()
