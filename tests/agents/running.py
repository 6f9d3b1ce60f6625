"""Programs as child processes: with a time limit, in a home and a git folder of their own."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from sandbox.process import SandboxError, wait_until

TIMEOUT_SECONDS = 400.0
ANSI = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[()][A-B0-2])")

# Documented switches for traffic that is not the user's own: reports, updates, feature flags.
QUIET = {
    "DO_NOT_TRACK": "1",
    "NO_COLOR": "1",
    "TERM": "dumb",
    "CI": "1",
    "AIDER_ANALYTICS_DISABLE": "true",
    "AIDER_CHECK_UPDATE": "false",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLINE_NO_AUTO_UPDATE": "1",
    "CONTINUE_TELEMETRY_ENABLED": "0",
    "DISABLE_AUTOUPDATER": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "PI_OFFLINE": "1",
}


@dataclass(frozen=True)
class Ended:
    """The end of a program: `code` is None if it ran out of time, or was stopped."""

    code: int | None
    output: str
    seconds: float

    def shows(self, text: str) -> bool:
        """Return whether the output has a text, however its lines are broken."""
        return " ".join(text.split()) in " ".join(self.output.split())


@dataclass
class Place:
    """A temporary home, and below it a git folder with one commit."""

    home: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="promptly-agent-")))

    def __enter__(self) -> Self:
        self.folder.mkdir()
        (self.folder / "README.md").write_text("# A project\n")
        for arguments in (
            ["init", "-q", "-b", "main"],
            ["config", "user.name", "Test"],
            ["config", "user.email", "test@example.com"],
            ["add", "."],
            ["commit", "-q", "-m", "First"],
        ):
            subprocess.run(["git", *arguments], cwd=self.folder, env=self.variables(), check=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def folder(self) -> Path:
        """The git folder that the program works in."""
        return self.home / "project"

    def variables(self) -> dict[str, str]:
        """Return the environment of programs here."""
        paths = {
            "HOME": self.home,
            "XDG_CONFIG_HOME": self.home / ".config",
            "XDG_DATA_HOME": self.home / ".local" / "share",
            "XDG_STATE_HOME": self.home / ".local" / "state",
            "XDG_CACHE_HOME": self.home / ".cache",
        }
        return (
            {name: str(path) for name, path in paths.items()}
            | QUIET
            | {
                "PATH": os.environ["PATH"],
                "LANG": "C.UTF-8",
            }
        )


def run(
    command: Sequence[str | Path],
    place: Place,
    variables: dict[str, str],
    *,
    stop_when: Callable[[], bool] | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Ended:
    """Run a program in its place until it ends, `stop_when` holds, or the time is over.

    A program that is still running then is killed with all its children.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(
            [str(part) for part in command],
            cwd=place.folder,
            env=place.variables() | variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            with suppress(SandboxError):  # out of time
                wait_until(
                    lambda: child.poll() is not None or (stop_when is not None and stop_when()),
                    timeout_seconds,
                    f"the end of {command[0]}",
                )
            code = child.poll()
        finally:
            _kill(child, place)
        output.seek(0)
        text = ANSI.sub("", output.read().decode(errors="replace"))
    return Ended(code, text, time.monotonic() - started)


def _kill(child: subprocess.Popen[bytes], place: Place) -> None:
    """Kill the program, and the servers that some leave behind in groups of their own."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for process in psutil.process_iter(["pid"]):
        try:
            if process.environ().get("HOME") == str(place.home):
                process.kill()
        except psutil.Error:
            continue
