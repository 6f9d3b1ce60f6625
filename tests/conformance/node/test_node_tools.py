"""The same SDKs over Responses with function tools."""

from pathlib import Path

import pytest

from tests.conformance import outside
from tests.conformance.backends import Backend
from tests.conformance.node.test_node import run
from tests.support.books import Account


@pytest.fixture
def backend(tools_backend: Backend) -> Backend:
    return tools_backend


@pytest.mark.node
def test_node(
    backend: Backend, account: Account, subtests: pytest.Subtests, tmp_path: Path
) -> None:
    outside.surface(run("*.tools.mjs", backend, account, tmp_path / "report.xml"), subtests)
