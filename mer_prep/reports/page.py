"""The shell of a report: one HTML file that needs no server, no network and no other file.

A page is written piece by piece, so that one with thousands of pictures takes no more memory than
one with a few, and appears under its name when all of it is there. Two things keep it to itself:
every piece is checked for whatever would be loaded from elsewhere, and a content security policy
in the page makes the browser refuse it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

from mer_prep import __version__
from mer_prep.checks import check_option
from mer_prep.errors import MerPrepError
from mer_prep.reports.markup import Html, render, source
from mer_prep.store import disk, files
from mer_prep.store.lock import Lock

#: What a banner is about: made-up data, licensed data, scores that mean nothing, anything else.
BANNERS = ("synthetic", "restricted", "leaky", "note")


@dataclass(frozen=True)
class Banner:
    """A line across the top of a page that nobody may miss.

    Parameters
    ----------
    kind : {'synthetic', 'restricted', 'leaky', 'note'}
        What it is about; decides how it looks.
    title : str
        One or two words in front.
    text : str or Html
        What there is to know.
    """

    kind: str
    title: str
    text: str

    def __post_init__(self) -> None:
        check_option("banner", self.kind, BANNERS)


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading of its own.

    Parameters
    ----------
    identifier : str
        Its anchor, unique on the page: letters, digits, ``-``, ``_`` and ``.``.
    title : str
        Heading, and entry in the contents.
    body : Html or iterable of Html
        What stands below the heading; an iterable is taken piece by piece as the page is written.
    note : str
        Shown small beside the heading, and in the contents.
    """

    identifier: str
    title: str
    body: Html | Iterable[Html]
    note: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.identifier):
            raise ValueError(f"{self.identifier!r} is no anchor")


@dataclass(frozen=True)
class Page:
    """A report.

    Parameters
    ----------
    title : str
        Heading of the page.
    subtitle : str
        One line below it.
    banners : sequence of Banner
        What must not be missed, the most important first.
    sections : sequence of Section
        The parts of the page in order.
    toolbar : Html, optional
        What stays in sight at the top, such as filters.
    keys : sequence of (str, str)
        Keys that scripts of the report understand, and what they do, for the help.
    styles, scripts : sequence of str
        Templates of further style sheets and scripts.
    """

    title: str
    subtitle: str = ""
    banners: Sequence[Banner] = ()
    sections: Sequence[Section] = ()
    toolbar: Html | None = None
    keys: Sequence[tuple[str, str]] = ()
    styles: Sequence[str] = ()
    scripts: Sequence[str] = ()

    def pieces(self) -> Iterator[Html]:
        """Yield the page from beginning to end.

        Raises
        ------
        DependencyError
            If Jinja2 is not installed.
        MerPrepError
            If a piece would load something from elsewhere.
        """
        style = "\n".join(source(name) for name in ("page.css", *self.styles))
        script = "\n".join(source(name) for name in ("page.js", *self.scripts))
        head = render(
            "page_head.html",
            page=self,
            style=Html(style),
            style_hash=_policy_hash(style),
            script_hash=_policy_hash(script),
            created=datetime.now(UTC).isoformat(timespec="minutes"),
            version=__version__,
        )
        for piece in (self.toolbar, *(banner.text for banner in self.banners)):
            if isinstance(piece, Html):
                check_self_contained(piece)
        yield head
        for section in self.sections:
            yield render("section_head.html", section=section)
            pieces = [section.body] if isinstance(section.body, str) else section.body
            for piece in pieces:
                check_self_contained(piece)
                yield piece
            yield render("section_tail.html")
        yield render("page_tail.html", page=self, script=Html(script))


def write_page(page: Page, target: Path) -> int:
    """Write a page to disk; it appears under its name when it is whole.

    Parameters
    ----------
    page : Page
        The page; the pieces of its sections are taken one after the other.
    target : Path
        The file, ``.html``.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    DependencyError
        If Jinja2 is not installed.
    LockedError
        If another run is writing the same file.
    ConfigError
        If the name is taken by a folder or device.
    MerPrepError
        If a piece would load something from elsewhere.
    OSError
        If the disk refuses; what was there before stays.
    """
    disk.make_folder(target.parent)
    files.check_target(target)
    with Lock(target):
        files.discard_unfinished(target)
        partial = files.partial_path(target)
        try:
            with io.BufferedWriter(disk.create(partial), 2**20) as file:
                # A name on the disk may hold bytes that are no text; they are shown as escapes.
                size = sum(
                    file.write(piece.encode(errors="backslashreplace")) for piece in page.pieces()
                )
            files.publish(partial, target)
        finally:
            files.discard(partial)
    return size


def _policy_hash(text: str) -> str:
    """Return how a content security policy names a text that may be used."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


#: Elements that load or send, whatever their attributes are, or that would stand in for a page.
_LOADING = frozenset(
    ("script", "link", "iframe", "frame", "object", "embed", "base", "meta", "form", "portal")
)

#: Attributes whose value is an address that is fetched.
_FETCHED = frozenset(
    ("src", "srcset", "poster", "data", "background", "action", "formaction", "ping", "manifest")
)

#: Attributes that hold nothing but text for people or for the scripts of the page.
_TEXTS = re.compile(r"(data|aria)-[\w-]+|alt|title|value|placeholder")

_CSS_FETCH = re.compile(r"@import|url\(\s*['\"]?(?!data:|#)", re.IGNORECASE)


def check_self_contained(piece: str) -> None:
    """Check that a piece of HTML loads nothing and runs nothing.

    Links that a reader may follow (``<a href="https:...">``) are no load.

    Raises
    ------
    MerPrepError
        Naming the element or attribute that would ask for something outside of the file, or that
        would be a script of its own.
    """
    _Checker().check(piece)


class _Checker(HTMLParser):
    def check(self, piece: str) -> None:
        self.feed(piece)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _LOADING:
            self._refuse(f"<{tag}>")
        for name, value in attrs:
            self._check_attribute(tag, name.rpartition(":")[2], (value or "").strip())

    def _check_attribute(self, tag: str, name: str, value: str) -> None:
        here = value.lower()[:11]
        fetched = name in _FETCHED or (name == "href" and tag != "a")
        if fetched and not here.startswith(("data:", "#")):
            self._refuse(f"<{tag} {name}={value[:80]!r}>")
        if name == "href" and tag == "a" and not here.startswith(("#", "https:", "http:")):
            self._refuse(f"<{tag} {name}={value[:80]!r}>")
        if name.startswith("on") or (name == "style"):
            self._refuse(f"<{tag} {name}=...>")
        is_text = _TEXTS.fullmatch(name) is not None
        if not is_text and not here.startswith("data:") and _CSS_FETCH.search(value[:4096]):
            self._refuse(f"<{tag} {name}={value[:80]!r}>")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "style" and _CSS_FETCH.search(data):
            self._refuse("a style sheet")

    def _refuse(self, what: str) -> None:
        raise MerPrepError(
            f"A part of the report would reach outside of its file: {what}.",
            why="a report opens without a network and tells nobody that it was opened",
            hint="no page was written; report this, with what the page was to be of",
        )
