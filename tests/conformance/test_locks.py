"""The lock files of the clients' environments: every version pinned, no registry URL."""

import json
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

FOLDER = Path(__file__).parent
AGENTS = FOLDER.parent / "agents"

PYTHON = [FOLDER / "requirements", AGENTS / "requirements", AGENTS / "requirements-aider"]
NODE = [FOLDER / "node", AGENTS / "node", AGENTS / "quick"]


def requirements(path: Path) -> list[Requirement]:
    lines = path.read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module", params=NODE, ids=lambda path: path.name)
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


@pytest.fixture(scope="module")
def lock(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "package-lock.json").read_text())
    return found


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.name)
def test_python_packages_are_pinned_as_required(path: Path) -> None:
    pinned: dict[str, list[str]] = {}
    for requirement in requirements(path.with_suffix(".txt")):
        [pin] = requirement.specifier
        assert pin.operator == "==", requirement
        pinned.setdefault(requirement.name, []).append(pin.version)
    for wanted in requirements(path.with_suffix(".in")):
        assert all(version in wanted.specifier for version in pinned[wanted.name]), wanted


def test_the_npm_lock_is_in_step(folder: Path, lock: dict[str, Any]) -> None:
    asked_for = json.loads((folder / "package.json").read_text())
    root = lock["packages"][""]
    for kind in ("dependencies", "devDependencies"):
        assert root.get(kind) == asked_for.get(kind)
    assert root["engines"] == asked_for["engines"]


def test_npm_packages_are_known_by_their_content_alone(lock: dict[str, Any]) -> None:
    installed = {name: entry for name, entry in lock["packages"].items() if name}
    assert installed
    for name, entry in installed.items():
        assert entry["integrity"].startswith("sha512-"), name
        assert "resolved" not in entry, name
