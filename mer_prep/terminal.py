"""What is written to the terminal: every line of the program goes through `echo`."""

from __future__ import annotations

import re

#: Characters that would steer a terminal, and are no end of a line or tab.
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: object) -> str:
    """Return a text that may come from anywhere with escapes for what would steer a terminal."""
    return _STEERING.sub(lambda one: f"\\x{ord(one[0]):02x}", str(text))


def echo(text: object = "", *, lead: str = "", err: bool = False) -> None:
    """Print lines whose words may come from a file, a folder's name or an annotation table.

    Parameters
    ----------
    text : object
        The line or lines.
    lead : str
        The program's own words before it, which may be coloured.
    err : bool
        Whether to write to the standard error instead of the standard output.
    """
    import click  # which training and flow do without

    click.echo(lead + printable(text), err=err)
