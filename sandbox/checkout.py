"""Another commit of this repository: its name, its files in a temporary folder, its Python."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox.process import SandboxError

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Code:
    """A checkout of promptly, and the Python of an environment for it; by default the current."""

    folder: Path = ROOT
    python: Path = Path(sys.executable)


def resolve(repository: Path, name: str) -> str:
    """Return a commit's full hash; SandboxError if there is no such commit."""
    return _git(repository, "rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}")


def describe(repository: Path) -> str:
    """Return the short hash of HEAD, with ``-dirty`` if tracked files differ from it."""
    return _git(repository, "describe", "--always", "--dirty", "--exclude=*")


@contextmanager
def checked_out(repository: Path, commit: str) -> Iterator[Path]:
    """Yield a folder with the files of a commit; it is removed at the end.

    It is an archive and not a worktree, so that even a killed process leaves no trace in the
    repository.
    """
    with tempfile.TemporaryDirectory(prefix="promptly-checkout-") as directory:
        archive, folder = Path(directory) / "archive.tar", Path(directory) / "promptly"
        folder.mkdir()
        _git(repository, "archive", "--format=tar", f"--output={archive}", commit)
        _run("tar", "-xf", archive, "--no-same-owner", "-C", folder)
        archive.unlink()
        yield folder


def _git(repository: Path, *arguments: str) -> str:
    return _run("git", "-C", repository, *arguments)


def _run(*command: str | Path) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise SandboxError(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode:
        raise SandboxError(f"{' '.join(map(str, command))} failed:\n{done.stderr.strip()}")
    return done.stdout.strip()
