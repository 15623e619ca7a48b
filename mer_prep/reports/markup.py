"""HTML as text that is known to be safe, and the templates it comes from."""

from __future__ import annotations

import functools
import html
from typing import Any

from mer_prep.checks import soft_import


class Html(str):
    """Text that is HTML already; templates put it into a page as it is."""

    def __html__(self) -> str:
        """Return the text itself, which is how templates recognise it."""
        return self


def escaped(text: object) -> str:
    """Return a text as it stands in HTML, in quoted attributes too; `Html` stays as it is."""
    return str(text) if isinstance(text, Html) else html.escape(str(text))


def check_templates() -> None:
    """Raise `DependencyError` if reports cannot be made here, before any work is done."""
    _environment()


def render(template: str, **values: Any) -> Html:
    """Return a template of this package, filled in.

    Parameters
    ----------
    template : str
        File name below ``reports/templates``.
    **values
        What it names. Texts are escaped unless they are `Html`; a name that is missing is an
        error.

    Raises
    ------
    DependencyError
        If Jinja2 is not installed.
    """
    return Html(_environment().get_template(template).render(**values))


def source(template: str) -> str:
    """Return a file of the templates as it is: a style sheet or a script."""
    environment = _environment()
    text: str = environment.loader.get_source(environment, template)[0]
    return text


@functools.cache
def _environment() -> Any:
    jinja2 = soft_import("jinja2", purpose="is needed for reports", install="mer-prep[report]")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mer_prep.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    return environment


def number(value: float, digits: int = 3) -> str:
    """Return a number for people: whole ones with thousands apart, others to so many digits."""
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:.{digits}g}"


def counted(count: int, noun: str) -> str:
    """Return ``1 clip``, ``2 clips``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
