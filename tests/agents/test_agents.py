"""The quick programs of `make agents`, in the cases that cost or write something."""

import sys
from pathlib import Path

import pytest

from tests.agents.programs import PROJECT
from tests.conformance import outside


@pytest.mark.slow
@pytest.mark.agents
def test_quick_programs(subtests: pytest.Subtests, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    # In a process of its own, which can leave the network (network.py).
    results = outside.run(
        [sys.executable, "-m", "tests.agents", "--quick", f"--report={report}"],
        folder=PROJECT,
        environment=outside.inherited(),
        report=report,
        timeout_seconds=280,
    )
    outside.surface(results, subtests)
