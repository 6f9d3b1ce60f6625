"""A base commit of this repository, checked out into a temporary folder."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.environments import python_for
from bench.system import ROOT
from bench.targets import Code
from sandbox.process import SandboxError


@contextmanager
def base_and_now(commit: str) -> Iterator[tuple[Code, Code]]:
    """Yield a commit's code and the current tree's, each in an environment made the same way."""
    with checked_out(ROOT, commit) as folder:
        configuration = ROOT / ".env"
        if configuration.exists():  # untracked, and read by the current tree's gateway
            shutil.copy2(configuration, folder)
        yield Code(folder, python_for(folder)), Code(ROOT, python_for(ROOT))


def resolve(repository: Path, name: str) -> str:
    """Return a commit's full hash; SandboxError if there is no such commit."""
    return _git(repository, "rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}")


def describe(repository: Path) -> str:
    """Return the short hash of HEAD, with ``-dirty`` if tracked files differ from it."""
    return _git(repository, "describe", "--always", "--dirty", "--exclude=*")


@contextmanager
def checked_out(repository: Path, commit: str) -> Iterator[Path]:
    """Yield a folder with the files of a commit; it is removed at the end.

    It is an archive and not a worktree, so that even a killed benchmark leaves no trace in the
    repository.
    """
    with tempfile.TemporaryDirectory(prefix="bench-base-") as directory:
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
