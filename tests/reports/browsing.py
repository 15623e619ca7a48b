"""Pages in a real browser: a tab that notes complaints and requests, and what is looked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = os.environ.get("MER_PREP_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)

needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium here; MER_PREP_CHROMIUM may name one"
)


@contextmanager
def launched() -> Iterator[Any]:
    """Start the browser for the time of a ``with`` block."""
    playwright = pytest.importorskip("playwright.sync_api")
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

    def close(self) -> None:
        """Close it, and see that nothing was complained of and nothing asked of anybody else."""
        assert self.complaints == []
        asked = {request.url for request in self.requests}
        assert {url for url in asked if not url.startswith("data:")} == {self.path.as_uri()}
        self.page.close()

    def assert_named(self) -> None:
        """See that everything has a name for those who do not see, and no two the same id."""
        assert self.page.evaluate(_UNNAMED) == []
        assert self.page.evaluate(_REPEATED) == []
        assert self.page.evaluate("document.querySelector('main :is(h1, h2, h3)').tagName") == "H2"
        assert self.page.locator("h1").count() == 1

    def assert_readable(self, *, width: int, scheme: str, least: int) -> None:
        """See that it fits its width and that `least` texts or more stand out from their ground."""
        assert self.page.evaluate("document.documentElement.scrollWidth") <= width
        paper = self.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(20, 23, 27)" if scheme == "dark" else "rgb(255, 255, 255)")
        contrast = self.page.evaluate(_CONTRAST)
        assert contrast["looked"] >= least
        assert contrast["poor"] == []


_UNNAMED = """() => {
  const kinds = "img, svg, input, select, button, dialog, section, article, nav";
  return [...document.querySelectorAll(kinds)]
    .filter((one) => !one.closest("[aria-hidden=true]"))
    .filter((one) => !(one.alt || one.getAttribute("aria-label")
      || one.textContent.trim() || one.closest("label")
      || document.getElementById(one.getAttribute("aria-labelledby"))))
    .map((one) => one.outerHTML.slice(0, 80));
}"""

_REPEATED = """() => { const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  return ids.filter((id, index) => ids.indexOf(id) !== index); }"""

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
