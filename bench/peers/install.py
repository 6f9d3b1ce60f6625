"""Installs the peers in the versions that this folder pins, below ``.promptly/peers``."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.system import ROOT
from sandbox.process import SandboxError

PINNED = Path(__file__).parent
FOLDER = ROOT / ".promptly" / "peers"
_PYTHON = f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
# `make clients` installs Node.js there.
_CLIENTS = ROOT / ".venv-clients" / "bin"


def litellm() -> Path:
    """Return the command of LiteLLM's proxy, installed at first use from PyPI."""
    folder = FOLDER / "litellm"
    script, requirements = ROOT / "scripts" / "environment.sh", PINNED / "litellm.txt"
    _run("sh", script, folder, requirements, PYTHON=_PYTHON)
    return folder / "bin" / "litellm"


def portkey() -> list[str | Path]:
    """Return the command of Portkey's gateway, installed at first use from npm."""
    node, npm = _tool("node"), _tool("npm")
    folder = FOLDER / "portkey"
    lock = folder / "package-lock.json"
    pinned_lock = PINNED / "portkey" / "package-lock.json"
    complete = folder / ".complete"
    if not complete.exists() or lock.read_bytes() != pinned_lock.read_bytes():
        complete.unlink(missing_ok=True)
        shutil.copytree(PINNED / "portkey", folder, dirs_exist_ok=True)
        # Its only script patches packages for Portkey's own development.
        _run(npm, "ci", "--silent", "--ignore-scripts", "--prefix", folder, PATH=_path())
        complete.touch()
    return [node, folder / "node_modules/@portkey-ai/gateway/build/start-server.js"]


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:{_CLIENTS}"


def _tool(name: str) -> str:
    found = shutil.which(name, path=_path())
    if found is None:
        raise SandboxError(f"{name} is missing: run `make clients`, or install Node.js 20 or newer")
    return found


def _run(*command: str | Path, **variables: str) -> None:
    """Run a command with its output on standard error, where progress is reported."""
    env = os.environ | variables
    if subprocess.run(command, env=env, stdout=sys.stderr, check=False).returncode:
        raise SandboxError(f"{' '.join(map(str, command))} failed")
