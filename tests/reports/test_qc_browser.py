"""A quality-control page in a real browser; skipped where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reports.conftest import FAILED, LEFT_OUT, NOTICED, WARNED

playwright = pytest.importorskip("playwright.sync_api")

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = os.environ.get("MER_PREP_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium here; MER_PREP_CHROMIUM may name one"
)

ALL = 6


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        # The pages are our own, and a container has no namespaces for the sandbox.
        chromium = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Tab:
    """A page in the browser, and whatever it complained of or asked for."""

    def __init__(self, browser: Any, path: Path, *, width: int, scheme: str = "light") -> None:
        self.complaints: list[str] = []
        self.requests: list[Any] = []
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request))
        self.page.goto(path.as_uri())
        self.path = path

    def shown(self) -> list[str]:
        """Return the clips in sight of the filters, in the order on the page."""
        self.settle()
        found: list[str] = self.page.evaluate(
            """() => [...document.querySelectorAll(".card")]
              .filter((one) => one.offsetParent)
              .map((one) => one.querySelector("h3").textContent)"""
        )
        return found

    def settle(self) -> None:
        self.page.wait_for_timeout(250)

    def look_at_everything(self) -> None:
        """Scroll through the whole page, so that every panel leaves its template."""
        self.page.evaluate(
            """async () => {
              for (let y = 0; y < document.body.scrollHeight; y += 400) {
                scrollTo(0, y);
                await new Promise((next) => requestAnimationFrame(() => setTimeout(next, 20)));
              }
            }"""
        )


@pytest.fixture
def tab(browser: Any, page: tuple[Any, str]) -> Iterator[Tab]:
    opened = Tab(browser, page[0].path, width=1400)
    yield opened
    assert opened.complaints == []
    asked = {request.url for request in opened.requests}
    assert {url for url in asked if not url.startswith("data:")} == {opened.path.as_uri()}
    opened.page.close()


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
    assert len(tab.shown()) == ALL
    tab.page.select_option("#state", "remarks")
    assert set(tab.shown()) == {WARNED, NOTICED, FAILED}
    assert tab.page.inner_text("#count") == "3 of 6 clips"
    tab.page.select_option("#subject", "sub02")
    assert tab.shown() == [FAILED]
    # A subject without a clip in sight has no heading either.
    assert not tab.page.is_visible("#subject-0")
    tab.page.click("#reset")
    assert tab.page.inner_text("#count") == "6 clips"
    tab.page.select_option("#class", "surprise")
    assert tab.shown() == [LEFT_OUT, "toy/sub02/EP02_01"]
    tab.page.click("#reset")
    tab.page.fill("#search", "HEAD turns")
    assert tab.shown() == [WARNED]
    tab.page.fill("#search", "no such thing")
    assert tab.shown() == []
    tab.page.keyboard.press("Escape")
    tab.page.keyboard.press("0")
    assert len(tab.shown()) == ALL


def test_sorting_and_back(tab: Tab) -> None:
    before = tab.shown()
    tab.page.select_option("#sort", "state")
    assert tab.shown()[:3] == [FAILED, WARNED, NOTICED]
    tab.page.select_option("#sort", "jitter")
    # What has no figure comes last.
    assert tab.shown()[-2:] == [FAILED, LEFT_OUT]
    tab.page.select_option("#sort", "")
    assert tab.shown() == before
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
    assert len(tab.shown()) == 3
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
    unnamed = tab.page.evaluate(
        """() => {
          const kinds = "img, svg, input, select, button, dialog, section, article, nav";
          return [...document.querySelectorAll(kinds)]
            .filter((one) => !one.closest("[aria-hidden=true]"))
            .filter((one) => !(one.alt || one.getAttribute("aria-label")
              || one.textContent.trim() || one.closest("label")
              || document.getElementById(one.getAttribute("aria-labelledby"))))
            .map((one) => one.outerHTML.slice(0, 80));
        }"""
    )
    assert unnamed == []
    repeated = tab.page.evaluate(
        """() => { const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
          return ids.filter((id, index) => ids.indexOf(id) !== index); }"""
    )
    assert repeated == []
    assert tab.page.evaluate("document.querySelector('main :is(h1, h2, h3)').tagName") == "H2"
    assert tab.page.locator("h1").count() == 1


#: Contrast of every visible text with what lies behind it, by the formula of WCAG 2.
_CONTRAST = """() => {
  const linear = (x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) =>
    0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const colour = rgb(getComputedStyle(one).backgroundColor);
      if (colour[3] > 250) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  let looked = 0;
  for (const one of document.querySelectorAll("body *")) {
    const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !one.checkVisibility() || one.closest("script, style, option")) continue;
    looked += 1;
    const style = getComputedStyle(one);
    const ink = rgb(one.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const [more, less] = [light(ink), light(behind(one))].sort((x, y) => y - x);
    if ((more + 0.05) / (less + 0.05) < 4.5) poor.push(one.outerHTML.slice(0, 120));
  }
  return { looked, poor };
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_widths_and_themes(browser: Any, page: tuple[Any, str], width: int, scheme: str) -> None:
    tab = Tab(browser, page[0].path, width=width, scheme=scheme)
    tab.look_at_everything()
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    dark = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark == ("rgb(20, 23, 27)" if scheme == "dark" else "rgb(255, 255, 255)")
    contrast = tab.page.evaluate(_CONTRAST)
    assert contrast["looked"] > 200
    assert contrast["poor"] == []
    assert tab.complaints == []
    tab.page.close()


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
