"""The OpenAI SDK for JavaScript and Vercel's AI SDK, under Node."""

from pathlib import Path

import pytest

from tests.conformance import outside
from tests.conformance.backends import Backend
from tests.support.books import Account

FOLDER = Path(__file__).parent


def run(pattern: str, backend: Backend, account: Account, report: Path) -> list[outside.Result]:
    """Run the suites whose names match; return the results of their tests."""
    outside.installed(outside.NODE_MODULES)
    return outside.run(
        [
            outside.installed(outside.NODE),
            "--test",
            "--experimental-test-isolation=none",
            "--test-timeout=30000",
            "--test-reporter=junit",
            f"--test-reporter-destination={report}",
            *sorted(FOLDER.glob(pattern)),
        ],
        folder=FOLDER,
        environment=outside.variables(backend, account),
        report=report,
    )


@pytest.mark.node
def test_node(
    backend: Backend, account: Account, subtests: pytest.Subtests, tmp_path: Path
) -> None:
    outside.surface(run("*.test.mjs", backend, account, tmp_path / "report.xml"), subtests)
