"""What docstrings say of parameters, for the program's own help and pages."""

from __future__ import annotations

import inspect


def parameter_texts(kind: type) -> dict[str, str]:
    """Return type and description of every parameter of a numpydoc docstring, a line each."""
    texts: dict[str, list[str]] = {}
    names: list[str] = []
    section = inspect.cleandoc(kind.__doc__ or "").partition("Parameters\n----------\n")[2]
    for line in section.splitlines():
        if line and not line.startswith(" "):
            listed, _, of = line.partition(" : ")
            names = listed.split(", ")
            texts |= {name: [f"{of}."] for name in names}
        elif line.strip():
            for name in names:
                texts[name].append(line.strip())
    return {name: " ".join(parts) for name, parts in texts.items()}
