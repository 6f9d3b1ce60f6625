"""The project around the code: what its files promise of one another."""

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from sqlalchemy import text
from sqlalchemy.orm import Session

from promptly import errors
from promptly.settings import Settings

PROJECT = Path(__file__).parent.parent

# What tools and runs leave behind.
_NOT_OURS = re.compile(r"\.(?!ci$).*|__pycache__|results|node_modules")

# Each exported file, and the dependency groups it holds besides what the product needs.
REQUIREMENTS = {
    "requirements-production.txt": (),
    "requirements.txt": ("sandbox",),
    "requirements-dev.txt": ("dev",),
}


def project_files() -> Iterator[Path]:
    for folder, folders, names in os.walk(PROJECT):
        folders[:] = [name for name in folders if not _NOT_OURS.fullmatch(name)]
        # In a second work tree of a clone `.git` is a file.
        yield from (Path(folder) / name for name in names if name not in {".env", ".git"})


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((PROJECT / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def lock() -> dict[str, Any]:
    return tomllib.loads((PROJECT / "uv.lock").read_text())


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())


def test_compose_has_the_services_of_production(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"db", "redis", "gateway", "worker", "beat", "adminer"}
    assert services["db"]["image"] == "postgres:16"
    account = services["db"]["environment"]
    assert (account["POSTGRES_USER"], account["POSTGRES_DB"]) == ("gateway", "gateway")
    assert account["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")
    assert "depends_on" not in services["db"]


def test_compose_publishes_on_this_machine_only(compose: dict[str, Any]) -> None:
    published = {
        name: service["ports"]
        for name, service in compose["services"].items()
        if "ports" in service
    }
    assert published == {
        "gateway": ["${GATEWAY_BIND:-127.0.0.1}:${GATEWAY_PORT:-8503}:8503"],
        "adminer": ["${ADMINER_BIND_HOST:-127.0.0.1}:${ADMINER_PORT:-8504}:8080"],
    }


def test_compose_waits_for_draining_streams(compose: dict[str, Any]) -> None:
    graceful = next(item for item in fields(Settings) if item.name == "graceful_timeout_seconds")
    grace = compose["services"]["gateway"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > int(graceful.metadata["default"])


def test_the_image_leaves_the_sandbox_out() -> None:
    assert "promptly/sandbox" in (PROJECT / ".dockerignore").read_text().splitlines()


def test_make_knows_its_commands() -> None:
    # Run by `make test`, it would take that one's options for its own.
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    listed = set(re.findall(r"^  make (\S+)", shown, re.MULTILINE))
    assert {"run", "test", "check", "bench", "help"} <= listed


def test_the_lock_is_in_step_with_pyproject(
    lock: dict[str, Any], pyproject: dict[str, Any]
) -> None:
    metadata = root_package(lock)["metadata"]
    assert locked_requirements(metadata["requires-dist"]) == named_requirements(
        pyproject["project"]["dependencies"]
    )
    groups = pyproject["dependency-groups"]
    for name in groups:
        locked = locked_requirements(metadata["requires-dev"][name])
        assert locked == named_requirements(members(groups, name)), name


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_requirements_are_in_step_with_the_lock(lock: dict[str, Any], name: str) -> None:
    exported = set()
    for line in (PROJECT / name).read_text().splitlines():
        requirement = Requirement(line)
        (pin,) = requirement.specifier
        assert pin.operator == "==", line
        exported.add((requirement.name, pin.version))
    assert exported == closure(lock, REQUIREMENTS[name])


def root_package(lock: dict[str, Any]) -> dict[str, Any]:
    return next(item for item in lock["package"] if item["source"] == {"virtual": "."})


def named_requirements(lines: list[str]) -> dict[str, Any]:
    return {item.name: item.specifier for item in map(Requirement, lines)}


def locked_requirements(entries: list[dict[str, str]]) -> dict[str, Any]:
    return named_requirements([entry["name"] + entry.get("specifier", "") for entry in entries])


def members(groups: dict[str, Any], name: str) -> list[str]:
    """The requirements of a group, those of included groups too."""
    found = []
    for entry in groups[name]:
        found += [entry] if isinstance(entry, str) else members(groups, entry["include-group"])
    return found


def closure(lock: dict[str, Any], groups: tuple[str, ...]) -> set[tuple[str, str]]:
    """Name and version of all that the product and these groups need, on any platform."""
    packages: dict[str, list[dict[str, Any]]] = {}
    for item in lock["package"]:
        packages.setdefault(item["name"], []).append(item)
    root = root_package(lock)
    wanted = list(root["dependencies"])
    for group in groups:
        wanted += root["dev-dependencies"][group]
    found: set[tuple[str, str]] = set()
    while wanted:
        entry = wanted.pop()
        for package in packages[entry["name"]]:
            # An entry names a version only where the lock has several.
            if entry.get("version", package["version"]) != package["version"]:
                continue
            if (package["name"], package["version"]) not in found:
                found.add((package["name"], package["version"]))
                wanted += package.get("dependencies", ())
            for extra in entry.get("extra", ()):
                wanted += package["optional-dependencies"][extra]
    return found


def test_documents_link_to_what_is_there() -> None:
    for document in (path for path in project_files() if path.suffix == ".md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document}: {target}"


def test_operators_find_every_variable() -> None:
    document = (PROJECT / "docs" / "operating.md").read_text()
    named = set(re.findall(r"`([A-Z][A-Z_]+)`", document))
    assert {item.name.upper() for item in fields(Settings)} <= named


def test_clients_find_every_error_code() -> None:
    document = (PROJECT / "docs" / "api.md").read_text()
    codes = {
        kind.code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.PromptlyError)
    }
    assert {code for code in codes - {None} if f"`{code}`" not in document} == set()


def test_every_decision_is_listed() -> None:
    decisions = PROJECT / "docs" / "adr"
    listed = set(re.findall(r"\]\((\d{4}-[^)]+)\)", (decisions / "README.md").read_text()))
    assert listed == {path.name for path in decisions.glob("[0-9]*.md")}


def test_documented_sql_works_as_it_stands(session: Session) -> None:
    blocks = re.findall(
        r"```sql\n(.*?)```", (PROJECT / "docs" / "metering.md").read_text(), re.DOTALL
    )
    assert len(blocks) == 3
    for statement in blocks:
        session.execute(text(statement))


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    pattern = re.compile(rb"(?<![\w.}])/(?:work|root|home|Users)/|\.\./shared")
    found = [
        f"{path.relative_to(PROJECT)}: {match.group().decode()}"
        for path in project_files()
        if (match := pattern.search(path.read_bytes()))
    ]
    assert found == []
