"""Reports of runs in a real browser; skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("jinja2")

from mer_prep.reports.comparison import comparison_page
from mer_prep.reports.page import write_page
from mer_prep.reports.run import run_page
from tests.bars import write_shards
from tests.reports.browsing import Tab, launched, needs_browser
from tests.reports.test_run_report import train

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    workspace = write_shards(folder / "ws")
    runs = [train(workspace, f"run-{seed}", seed=seed) for seed in (1, 2)]
    made = {"run": run_page(workspace, *runs[0]), "comparison": comparison_page(runs)}
    for name, page in made.items():
        write_page(page, folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in made}


def test_every_picture_of_a_wrong_clip_is_seen(browser: Any, pages: dict[str, Path]) -> None:
    tab = Tab(browser, pages["run"], width=1400)
    widths = tab.page.evaluate(
        """async () => {
          const pictures = [...document.querySelectorAll("img")];
          for (const one of pictures) one.loading = "eager";
          await Promise.all(pictures.map((one) => one.decode()));
          return pictures.map((one) => one.naturalWidth);
        }"""
    )
    cards = tab.page.locator("article.clip").count()
    assert cards > 0
    assert widths == [96] + [72] * 3 * cards
    tab.assert_named()
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("name", ["run", "comparison"])
def test_widths_and_themes(
    browser: Any, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    tab = Tab(browser, pages[name], width=width, scheme=scheme)
    tab.assert_named()
    tab.assert_readable(width=width, scheme=scheme, least=100)
    tab.close()


def test_contents_lead_to_sections_and_one_click_takes_the_paragraph(
    browser: Any, pages: dict[str, Path]
) -> None:
    tab = Tab(browser, pages["run"], width=1400)
    links = tab.page.eval_on_selector_all("nav.contents a", "ones => ones.map(one => one.hash)")
    assert len(links) >= 7
    for link in links:
        assert tab.page.locator(f"section{link} h2").count() == 1
    tab.page.click("#methods")
    selected = tab.page.evaluate("getSelection().toString()")
    assert selected.startswith("SYNTHETIC clips")
    assert "leave-one-subject-out in 3 folds" in selected
    tab.close()
