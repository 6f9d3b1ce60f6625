"""LlamaIndex, in its own environment because it needs an older `openai`."""

from pathlib import Path

import pytest

from tests.conformance import outside
from tests.conformance.backends import Backend
from tests.support.books import Account

FOLDER = Path(__file__).parent


@pytest.mark.llama_index
def test_llama_index(
    backend: Backend, account: Account, subtests: pytest.Subtests, tmp_path: Path
) -> None:
    report = tmp_path / "report.xml"
    results = outside.run(
        [
            outside.installed(outside.PYTHON),
            "-m",
            "pytest",
            "-c",
            FOLDER / "suite.ini",
            f"--junit-xml={report}",
            FOLDER,
        ],
        folder=outside.PROJECT,
        environment=outside.variables(backend, account),
        report=report,
    )
    outside.surface(results, subtests)
