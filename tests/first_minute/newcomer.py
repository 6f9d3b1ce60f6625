"""A newcomer, who unpacks the project into a folder, runs `make run` and pastes the README."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from sandbox.ports import free_port
from sandbox.process import wait_until
from tests.docs.snippets import PROJECT, Snippet, snippets_of
from tests.sandbox.toy_project import wait_until_gone

# Paths that an archive of the project does not contain.
NOT_IN_AN_ARCHIVE = shutil.ignore_patterns(
    ".git", ".venv*", ".promptly", ".env", "node_modules", "__pycache__", "results", ".*_cache",
    ".hypothesis", "screenshots",
)  # fmt: skip
# Environment variables to keep: only those needed to reach the package index and the tools.
KEPT = re.compile(r"PATH|PIP_\w+|SSL_\w+|\w+_(proxy|PROXY)")
INSTALL_AND_START_SECONDS = 600
STOP_SECONDS = 60
README_URL = "http://127.0.0.1:8503"


@dataclass(frozen=True)
class Person:
    """The system user who types, with their umask."""

    uid: int = field(default_factory=os.geteuid)
    gid: int = field(default_factory=os.getegid)
    umask: int = 0o022

    @property
    def is_somebody_else(self) -> bool:
        """Whether the tests, as root, must switch to this user."""
        return self.uid != os.geteuid()


class Newcomer:
    """One copy of the project and the processes run in it; `wrapper` precedes each command."""

    def __init__(
        self,
        folder: Path,
        *,
        person: Person | None = None,
        wrapper: tuple[str | Path, ...] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.person = person or Person()
        self.port = free_port()
        self.output = Path(tempfile.mkdtemp(prefix="first-minute-")) / "output"
        self.wrapper = wrapper
        self._process: subprocess.Popen[bytes] | None = None
        home = folder.parent / "home"
        home.mkdir(exist_ok=True)
        shutil.copytree(PROJECT, folder, ignore=NOT_IN_AN_ARCHIVE)
        if self.person.is_somebody_else:
            for path in (home, folder, *folder.rglob("*")):
                os.chown(path, self.person.uid, self.person.gid, follow_symlinks=False)
        kept = {name: value for name, value in os.environ.items() if KEPT.fullmatch(name)}
        self._environment = kept | {
            "HOME": str(home),
            "PIP_CACHE_DIR": str(pip_cache(self.person)),
            "GATEWAY_PORT": str(self.port),
            **(variables or {}),
        }

    @property
    def printed(self) -> str:
        """The output of `make run` so far."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def install(self) -> None:
        """Install whatever needs the network, including the SDK of the README's third block."""
        self.run("bash", f"make venv; .venv/bin/python -m pip install --quiet {pinned('openai')}")

    def make_run(self) -> None:
        """Start `make run` and wait until it reports that it is ready."""
        process = self.start()
        wait_until(
            lambda: "promptly is ready" in self.printed or process.poll() is not None,
            INSTALL_AND_START_SECONDS,
            "make run",
        )
        assert process.poll() is None, self.printed

    def start(self) -> subprocess.Popen[bytes]:
        """Start `make run` without waiting for it."""
        with self.output.open("wb") as output:
            self._process = self._popen(["make", "run"], stdout=output)
        return self._process

    def paste_readme(self) -> list[str]:
        """Run each block of the first screen in its own shell; return their outputs."""
        key = ""
        printed = []
        mail = self.folder / ".promptly" / "mail"
        self.install()
        for snippet in first_screen():
            text = snippet.text.replace(README_URL, f"http://127.0.0.1:{self.port}")
            if "PROMPTLY_KEY=" in text:
                wait_until(lambda: any(mail.glob("*.eml")), 60, "the mail with the key")
                text += '\nprintf "\\nPROMPTLY_KEY=%s\\n" "$PROMPTLY_KEY"'
            printed.append(self.run(snippet.language, text, PROMPTLY_KEY=key))
            found = re.search(r"^PROMPTLY_KEY=(sk-\w+)$", printed[-1], re.MULTILINE)
            key = found[1] if found else key
        return printed

    def run(
        self,
        language: str,
        text: str,
        *,
        timeout_seconds: float = INSTALL_AND_START_SECONDS,
        **variables: str,
    ) -> str:
        """Run a script in the folder; return its output."""
        if language == "python":
            command: list[str | Path] = [".venv/bin/python", "-c", text]
        else:
            command = ["bash", "-ec", f'curl() {{ command curl -sS --fail "$@"; }}\n{text}']
        process = self._popen(command, stdout=subprocess.PIPE, **variables)
        printed = process.communicate(timeout=timeout_seconds)[0].decode()
        assert process.returncode == 0, printed
        return printed

    def stop(self) -> None:
        """Stop with Ctrl-C; check that `make run` reports it and leaves no process behind."""
        assert self._process is not None
        family = psutil.Process(self._process.pid).children(recursive=True)
        os.killpg(self._process.pid, signal.SIGINT)
        self._process.wait(STOP_SECONDS)
        wait_until_gone(family)
        assert "stopping" in self.printed

    def clean(self) -> None:
        """End a process still running and remove the output; idempotent."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(STOP_SECONDS)
        shutil.rmtree(self.output.parent, ignore_errors=True)

    def _popen(
        self, command: list[str | Path], *, stdout: int | IO[bytes], **variables: str
    ) -> subprocess.Popen[bytes]:
        other = self.person if self.person.is_somebody_else else None
        return subprocess.Popen(
            [*self.wrapper, *command],
            cwd=self.folder,
            env=self._environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=None if other is None else other.uid,
            group=None if other is None else other.gid,
            extra_groups=None if other is None else [],
            umask=self.person.umask,
        )


def first_screen() -> Iterator[Snippet]:
    """Yield the runnable blocks of the README before its first section."""
    text = (PROJECT / "README.md").read_text().partition("\n## ")[0]
    return (snippet for snippet in snippets_of("README.md", text) if snippet.is_run)


def pinned(name: str) -> str:
    """Return a package's pinned requirement from requirements-dev.txt."""
    lines = (PROJECT / "requirements-dev.txt").read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{name}=="))


def pip_cache(person: Person) -> Path:
    """Return the download cache shared by a user's tests; pip ignores another user's cache."""
    root = Path(tempfile.gettempdir()) if person.is_somebody_else else Path.home() / ".cache"
    folder = root / "promptly-pip" / str(person.uid)
    folder.mkdir(parents=True, exist_ok=True)
    if person.is_somebody_else:
        os.chown(folder, person.uid, person.gid)
    return folder
