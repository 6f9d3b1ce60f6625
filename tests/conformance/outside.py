"""Runner for suites in their own interpreter, which report each test as JUnit XML.

`make clients` installs Node, and the packages that conflict with the development environment, into
`.venv-clients`.
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
    """The result of one test of a suite; `problem` is empty if it passed."""

    name: str
    problem: str


def installed(pattern: str) -> Path:
    """Return the path that `make clients` installed for a pattern below the project's folder."""
    return next(PROJECT.glob(pattern))


def inherited() -> dict[str, str]:
    """Return the variables that every suite gets from ours."""
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


def variables(backend: Backend, account: Account) -> dict[str, str]:
    """Return a suite's environment variables: the gateway's URL, and keys.

    SIMULATOR_URL is set only if the upstream is the simulator; it is for injecting faults.
    """
    found = inherited() | {
        "BASE_URL": backend.base_url,
        "API_KEY": account.key,
        "POOR_API_KEY": backend.books.account(paid_tokens=1).key,
    }
    if isinstance(backend.upstream, SimulatedUpstream):
        found["SIMULATOR_URL"] = backend.upstream.server.url
    return found


def run(
    command: list[str | Path],
    *,
    folder: Path,
    environment: dict[str, str],
    report: Path,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> list[Result]:
    """Run a suite in `folder` that writes `report`; return the results of all its tests.

    Fail with its output if it wrote no report, or failed although all its tests passed.
    """
    ended = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    results = list(read(report)) if report.exists() else []
    assert results, ended.stdout
    if ended.returncode:
        assert any(result.problem for result in results), ended.stdout
    return results


def read(report: Path) -> Iterator[Result]:
    """Yield the results in a report; a skipped test counts as not passed."""
    for case in ElementTree.parse(report).iter("testcase"):
        problems = [
            "\n".join(filter(None, (child.get("message"), child.text)))
            for child in case
            if child.tag in ("failure", "error", "skipped")
        ]
        yield Result(case.get("name", ""), "\n".join(problems))


def surface(results: list[Result], subtests: pytest.Subtests) -> None:
    """Report each test of a suite as a subtest of the current test."""
    for result in results:
        with subtests.test(msg=result.name):
            if result.problem:
                pytest.fail(result.problem, pytrace=False)
