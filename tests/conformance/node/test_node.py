"""The OpenAI SDK for JavaScript and Vercel's AI SDK, under Node."""

from pathlib import Path

import pytest

from tests.conformance import outside
from tests.conformance.backends import Backend
from tests.support.books import Account

FOLDER = Path(__file__).parent


@pytest.mark.node
def test_node(
    backend: Backend, account: Account, subtests: pytest.Subtests, tmp_path: Path
) -> None:
    outside.installed(outside.NODE_MODULES)
    report = tmp_path / "report.xml"
    results = outside.run(
        [
            outside.installed(outside.NODE),
            "--test",
            "--experimental-test-isolation=none",
            "--test-timeout=30000",
            "--test-reporter=junit",
            f"--test-reporter-destination={report}",
            *sorted(FOLDER.glob("*.test.mjs")),
        ],
        folder=FOLDER,
        environment=outside.variables(backend, account),
        report=report,
    )
    outside.surface(results, subtests)
