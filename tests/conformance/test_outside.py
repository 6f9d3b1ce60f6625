"""The runner for suites in other interpreters must not miss a test that did not pass."""

import sys
from pathlib import Path

import pytest

from tests.conformance import outside

REPORT = """<testsuites><testsuite>
<testcase name="good"/>
<testcase name="bad"><failure message="1 != 2">at line 5</failure></testcase>
<testcase name="broken"><error message="no such module"/></testcase>
<testcase name="left out"><skipped message="not today"/></testcase>
</testsuite></testsuites>"""


def run(tmp_path: Path, script: str) -> list[outside.Result]:
    return outside.run(
        [sys.executable, "-c", script],
        folder=tmp_path,
        environment={},
        report=tmp_path / "report.xml",
    )


def test_a_report_is_read_test_by_test(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    problems = {result.name: result.problem for result in run(tmp_path, "raise SystemExit(1)")}
    assert problems == {
        "good": "",
        "bad": "1 != 2\nat line 5",
        "broken": "no such module",
        "left out": "not today",
    }


def test_a_suite_that_does_not_report_has_failed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="nothing to import"):
        run(tmp_path, "raise SystemExit('nothing to import')")


def test_a_suite_that_fails_beyond_its_tests_has_failed(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text('<testsuite><testcase name="good"/></testsuite>')
    with pytest.raises(AssertionError, match="a fixture broke"):
        run(tmp_path, "raise SystemExit('a fixture broke')")
