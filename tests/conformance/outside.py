"""Suites that run in an interpreter of their own, and report each test in JUnit's XML.

Node and the packages that cannot live beside the development environment's are in `.venv-clients`,
which `make clients` makes.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.conformance.backends import Backend, SimulatedUpstream
from tests.plugins import tools
from tests.support.books import Account

PROJECT = Path(__file__).parents[2]
PYTHON, NODE, NODE_MODULES = tools.CLIENTS_PYTHON, tools.NODE, tools.NODE_MODULES
TIMEOUT_SECONDS = 100


@dataclass(frozen=True)
class Result:
    """One test of a suite; `problem` is empty when it passed."""

    name: str
    problem: str


def installed(pattern: str) -> Path:
    """Resolve a pattern of `make clients`, below the project's folder."""
    return next(PROJECT.glob(pattern))


def variables(backend: Backend, account: Account) -> dict[str, str]:
    """The environment of a suite: where the gateway is, and keys.

    SIMULATOR_URL is there when the simulator stands behind the gateway, to be told to fail.
    """
    found = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    found |= {
        "BASE_URL": backend.base_url,
        "API_KEY": account.key,
        "POOR_API_KEY": backend.books.account(paid_tokens=1).key,
    }
    if isinstance(backend.upstream, SimulatedUpstream):
        found["SIMULATOR_URL"] = backend.upstream.server.url
    return found


def run(
    command: list[str | Path], *, folder: Path, environment: dict[str, str], report: Path
) -> list[Result]:
    """Run a suite in `folder`, which writes `report`; returns all its tests.

    Fails with what it has printed when there is no report, or when it failed beyond its tests.
    """
    ended = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    results = list(read(report)) if report.exists() else []
    assert results, ended.stdout
    if ended.returncode:
        assert any(result.problem for result in results), ended.stdout
    return results


def read(report: Path) -> Iterator[Result]:
    """The tests of a report; one that was skipped has not passed."""
    for case in ElementTree.parse(report).iter("testcase"):
        problems = [
            "\n".join(filter(None, (child.get("message"), child.text)))
            for child in case
            if child.tag in ("failure", "error", "skipped")
        ]
        yield Result(case.get("name", ""), "\n".join(problems))


def surface(results: list[Result], subtests: pytest.Subtests) -> None:
    """Show each test of a suite as a subtest of this one."""
    for result in results:
        with subtests.test(msg=result.name):
            if result.problem:
                pytest.fail(result.problem, pytrace=False)
