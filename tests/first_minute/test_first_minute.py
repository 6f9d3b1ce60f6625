"""The README's first screen works in a folder that only its owner can enter."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.first_minute.newcomer import Newcomer

# Concurrent tests with `make run` would slow it down, and it loads the machine itself.
pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    someone = Newcomer(closed / "promptly")
    yield someone
    someone.clean()


def test_the_readmes_lines_in_a_closed_folder(newcomer: Newcomer) -> None:
    newcomer.make_run()
    registered, chat, streamed = newcomer.paste_readme()
    assert "<html" in registered
    assert '"completion_tokens"' in chat and '"available_tokens"' in chat
    assert streamed.strip()
    checked = newcomer.run("bash", "make smoke")
    assert "0 failed, 2 skipped" in checked, "inference, without SMOKE_API_KEY"
    newcomer.run("bash", ".venv/bin/flask --app wsgi ledger verify")
    newcomer.stop()
