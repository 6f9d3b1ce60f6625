"""The whole program as a user runs it: a short run that agrees, and an interrupted one."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from sandbox.process import wait_until

pytestmark = [pytest.mark.alone, pytest.mark.exhaustive, pytest.mark.timeout(900)]

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, project: Path) -> Start:
    """Factory for runs with the temporary folder `tmp_path / "tmp"`, which begins empty."""
    (tmp_path / "tmp").mkdir()

    def build(*arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "prove", *arguments],
            cwd=project,
            env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return build


def test_a_short_run_agrees(start: Start, tmp_path: Path) -> None:
    run = start("--seconds", "20", "--seed", "1")
    printed, _ = run.communicate(timeout=800)
    assert run.returncode == 0, printed
    for part in ("web worker", "Celery", "PostgreSQL", "Redis", "model server"):
        assert f"{part} killed: " in printed
    assert "Everything agrees." in printed
    assert "DIFFERS" not in printed
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_interrupt_stops_everything(start: Start, tmp_path: Path) -> None:
    run = start("--seed", "2")
    assert run.stdout is not None
    while "killed, back after" not in (line := run.stdout.readline()):
        assert line, "it ended early"
    family = psutil.Process(run.pid).children(recursive=True)
    assert len(family) > 10
    for _ in range(2):  # as impatient people do
        run.send_signal(signal.SIGINT)
    printed, _ = run.communicate(timeout=300)
    assert run.returncode == 130, printed
    assert "Traceback" not in printed
    wait_until(lambda: not psutil.wait_procs(family, 0)[1], 30, "the end of all processes")
    assert list((tmp_path / "tmp").iterdir()) == []
