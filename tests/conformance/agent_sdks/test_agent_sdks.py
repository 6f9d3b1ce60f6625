"""OpenAI's Agents SDK and pydantic-ai, in the environment of the agents."""

from pathlib import Path

import pytest

from tests.conformance import outside
from tests.conformance.backends import Backend
from tests.support.books import Account

FOLDER = Path(__file__).parent
PYTHON = ".venv-agents/bin/python"

pytestmark = pytest.mark.agents


@pytest.fixture
def backend(tools_backend: Backend) -> Backend:
    return tools_backend


def test_agent_sdks(
    backend: Backend, account: Account, subtests: pytest.Subtests, tmp_path: Path
) -> None:
    report = tmp_path / "report.xml"
    results = outside.run(
        [outside.PROJECT / PYTHON, FOLDER / "suite.py", report],
        folder=FOLDER,
        environment=outside.variables(backend, account),
        report=report,
    )
    outside.surface(results, subtests)
