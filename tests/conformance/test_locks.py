"""The lock files of the clients' environments: every version pinned, no registry URL."""

import json
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

FOLDER = Path(__file__).parent


def requirements(name: str) -> list[Requirement]:
    lines = (FOLDER / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def lock() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "node" / "package-lock.json").read_text())
    return found


def test_python_packages_are_pinned_as_required() -> None:
    pinned: dict[str, list[str]] = {}
    for requirement in requirements("requirements.txt"):
        [pin] = requirement.specifier
        assert pin.operator == "==", requirement
        pinned.setdefault(requirement.name, []).append(pin.version)
    for wanted in requirements("requirements.in"):
        assert all(version in wanted.specifier for version in pinned[wanted.name]), wanted


def test_the_npm_lock_is_in_step(lock: dict[str, Any]) -> None:
    asked_for = json.loads((FOLDER / "node" / "package.json").read_text())
    root = lock["packages"][""]
    assert root["devDependencies"] == asked_for["devDependencies"]
    assert root["engines"] == asked_for["engines"]


def test_npm_packages_are_known_by_their_content_alone(lock: dict[str, Any]) -> None:
    installed = {name: entry for name, entry in lock["packages"].items() if name}
    assert installed
    for name, entry in installed.items():
        assert entry["integrity"].startswith("sha512-"), name
        assert "resolved" not in entry, name
