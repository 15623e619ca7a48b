"""The program as a test calls it."""

from __future__ import annotations

from click.testing import CliRunner, Result

from mer_prep.cli import cli
from mer_prep.errors import MerPrepError


def call(*arguments: object, code: int = 0) -> Result:
    """Run a command; an error made for people is raised, and another exit code is a failure."""
    result = CliRunner().invoke(cli, [str(one) for one in arguments])
    if isinstance(result.exception, MerPrepError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result
