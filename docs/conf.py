"""How Sphinx builds these pages: ``make docs``."""

from __future__ import annotations

import re
from typing import Any

import mer_prep

project = "mer-prep"
author = "The mer-prep developers"
release = version = mer_prep.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_click",
    "sphinx_copybutton",
]
root_doc = "README"
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}  # autosummary writes .rst
exclude_patterns = ["_build", "_templates"]

html_theme = "furo"
html_title = f"mer-prep {release}"
html_show_sourcelink = False

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "dollarmath"]

autodoc_typehints = "none"  # the docstrings say types, shapes and units
templates_path = ["_templates"]
autosummary_generate = True
numpydoc_show_class_members = False
copybutton_prompt_text = "$ "

#: Prose that Sphinx takes for a reference; the links of the pages themselves are checked.
suppress_warnings = ["myst.strikethrough"]


def _plain_references(app: Any, what: str, name: str, obj: Any, options: Any, lines: list) -> None:
    """Leave the numbers of references as they are: functions share those of their module."""
    lines[:] = [
        re.sub(r"^\.\. (\[\d\] )", r"* \1", re.sub(r"(\[\d\])_", r"\1", one)) for one in lines
    ]


def setup(app: Any) -> None:
    """Have references made plain before anything else looks at a docstring."""
    app.connect("autodoc-process-docstring", _plain_references, priority=100)
