"""Every fault of the catalogue, a sample of its tries; and that no case passes unprotected."""

from __future__ import annotations

import pytest

from tests.faults.catalogue import Case, catalogue

CASES = catalogue()
REMOVALS = [
    (case, protection) for case in CASES.values() for protection in case.without if not case.seldom
]


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_fault_is_stood(case: Case) -> None:
    if not case.can_run():
        pytest.skip(f"needs {', '.join(case.needs)}")
    case.run(quick=True)


@pytest.mark.parametrize(
    ("case", "protection"),
    REMOVALS,
    ids=[f"{case.name} without {protection}" for case, protection in REMOVALS],
)
def test_a_case_fails_without_its_protection(case: Case, protection: str) -> None:
    if not case.can_run():
        pytest.skip(f"needs {', '.join(case.needs)}")
    case.run_without(protection)
