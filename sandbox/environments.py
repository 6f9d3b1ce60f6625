"""Virtual environments for checkouts, kept in the user's cache.

The name of an environment is a hash of all that determines it, so checkouts with the same
requirements, often the base commit and the current tree, share one.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.process import SandboxError

_SCRIPT = "scripts/environment.sh"
_REQUIREMENTS = "requirements.txt"
_SOURCES = (_SCRIPT, _REQUIREMENTS, "requirements-fast.txt")
# The interpreter behind this environment, so that all run on the same Python.
_PYTHON = f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"


def python_for(checkout: Path) -> Path:
    """Return the Python of an environment with a checkout's requirements, made at first use.

    Raises SandboxError if it cannot be made.
    """
    cache = _cache()
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / _key(checkout)
    with _locked(cache / f"{folder.name}.lock"):
        if (checkout / _SCRIPT).exists():
            _run("sh", checkout / _SCRIPT, folder, _REQUIREMENTS)
        else:
            _make(folder, checkout / _REQUIREMENTS)
    return folder / "bin" / "python"


def _cache() -> Path:
    """Return the folder of all environments, next to the built llama-server's."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("PROMPTLY_CACHE") or Path(home) / "promptly") / "environments"


def _key(checkout: Path) -> str:
    found = hashlib.sha256(f"{_PYTHON} {sys.version}".encode())
    for path in (checkout / name for name in _SOURCES):
        found.update(path.read_bytes() if path.exists() else b"none")
        found.update(b"\0")
    return found.hexdigest()[:16]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _make(folder: Path, requirements: Path) -> None:
    """Make an environment for a commit that is older than the script, unless it is complete."""
    complete = folder / ".complete"
    if complete.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    _run(_PYTHON, "-m", "venv", folder)
    _run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "-r", requirements)
    complete.touch()


def _run(*command: str | Path) -> None:
    """Run a command with its output on standard error, where progress is reported."""
    env = os.environ | {"PYTHON": _PYTHON}
    if subprocess.run(command, env=env, stdout=sys.stderr, check=False).returncode:
        raise SandboxError(f"{' '.join(map(str, command))} failed")
