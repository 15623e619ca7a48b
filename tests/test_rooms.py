"""The rooms of the package: imports run one way, from the commands down to the errors."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

import mer_prep

PACKAGE = Path(mer_prep.__file__).parent

#: Rooms and modules by storey; a storey imports from itself and from those below.
STOREYS: tuple[tuple[str, ...], ...] = (
    (
        "errors",
        "checks",
        "config",
        "records",
        "resources",
        "docstrings",
        "terminal",
        "progress",
        "__init__",
    ),
    (
        "manifest",
        "manifest_checks",
        "manifest_files",
        "label_map",
        "labels",
        "balance",
        "expected_counts",
        "protocols",
        "metrics",
        "pipeline",
        "workspace",
        "composite",
        "composite_checks",
        "composite_files",
        "composite_report",
        "ops",
        "store",
    ),
    ("pictures", "videos", "evaluation", "models"),
    ("dataset",),
    ("sources",),
    ("synth", "stages"),
    (
        *("inspection", "truth_check", "doctor", "film", "docs_pages", "docs_reference"),
        "docs_leaderboard",
        *("export", "reports", "spotting", "training"),
    ),
    ("commands",),
    ("cli",),
)
STOREY = {name: number for number, names in enumerate(STOREYS) for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(parts: tuple[str, ...]) -> str:
    return parts[0] if parts else "__init__"


def imported_rooms(path: Path) -> set[str]:
    """Return the rooms a module imports from anywhere in its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names]
        for name in names:
            first, *rest = name.split(".")
            if first == "mer_prep" and rest:
                found.add(rest[0] if rest[0] in STOREY else "__init__")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_never_point_back(path: Path) -> None:
    own = room(path.relative_to(PACKAGE).with_suffix("").parts)
    assert own in STOREY, f"give the new room '{own}' a storey"
    higher = {name for name in imported_rooms(path) if STOREY[name] > STOREY[own]}
    assert not higher


@pytest.mark.parametrize("path", sorted((PACKAGE / "ops").glob("*.py")), ids=lambda path: path.stem)
def test_the_mathematics_knows_no_files_of_corpora_and_no_command_line(path: Path) -> None:
    assert imported_rooms(path) <= {"errors", "checks", "ops", "__init__"}
    assert "import click" not in path.read_text(encoding="utf-8")


def test_synthesis_needs_no_landmark_detector() -> None:
    for path in (PACKAGE / "synth").rglob("*.py"):
        assert "dlib" not in imported_rooms(path)
        assert "import dlib" not in path.read_text(encoding="utf-8")


def test_every_package_is_in_the_wheel() -> None:
    project = PACKAGE.parent / "pyproject.toml"
    if not project.is_file():
        pytest.skip("an installed package has no pyproject.toml beside it")
    listed = tomllib.loads(project.read_text("utf-8"))["tool"]["setuptools"]["packages"]
    packages = {
        ".".join(("mer_prep", *path.parent.relative_to(PACKAGE).parts))
        for path in PACKAGE.rglob("__init__.py")
    }
    assert packages <= set(listed)


#: Modules that write to the terminal by themselves: they let nothing steer it.
WRITERS = ("terminal.py", "progress.py", "docs_pages.py")


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.name not in WRITERS],
    ids=lambda path: path.relative_to(PACKAGE).as_posix(),
)
def test_every_line_of_the_program_goes_through_one_place(path: Path) -> None:
    called = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    writers = {"print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write"}
    assert not called & writers, "print with mer_prep.terminal.echo"
