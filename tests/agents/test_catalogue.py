"""Programs, their pages, the deviations and the table of results fit together."""

import pytest

from tests.agents import table
from tests.agents.cases import CASES
from tests.agents.catalogue import PROGRAMS
from tests.agents.deviations import DEVIATIONS
from tests.agents.pages import KEY, Page
from tests.agents.programs import Program
from tests.agents.table import BEGIN, README, Result

NAMES = [program.name for program in PROGRAMS]


def test_names_are_unique() -> None:
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("program", PROGRAMS, ids=NAMES)
def test_a_page_configures_each_program(program: Program) -> None:
    page = Page(program.page, "http://127.0.0.1:1", "sk-key")
    used = [page.blocks(language)[number] for language, number in program.files.values()]
    used += [line for line in page.lines("bash") if program.setup and program.setup in line]
    used += page.exports().values()
    assert any("http://127.0.0.1:1" in text for text in used)
    assert not any(KEY in text for text in used)


def test_every_deviation_is_of_a_program_and_a_case() -> None:
    cases = {case.name for case in CASES}
    assert {program for program, _ in DEVIATIONS} <= set(NAMES)
    assert {case for _, case in DEVIATIONS} <= cases
    assert all(DEVIATIONS.values())


def test_a_deviation_that_is_gone_is_a_failure() -> None:
    def result(*, passed: bool, explained: str) -> Result:
        return Result("codex", "tool", passed, "", explained, 1.0)

    assert result(passed=True, explained="").is_expected
    assert result(passed=False, explained="a reason").is_expected
    assert not result(passed=True, explained="a reason").is_expected
    assert not result(passed=False, explained="").is_expected


def test_the_published_table_is_of_these_versions() -> None:
    """`make agents ARGS=--write` writes it, so it has to run whenever a pin changes."""
    published = README.read_text().partition(BEGIN)[2]
    for program in PROGRAMS:
        assert f"| {program.title} | {program.version} |" in published, program.name


def test_the_table_has_a_line_per_program() -> None:
    results = [
        Result("codex", "first", True, "", "", 1.0),
        Result("codex", "key", True, "2 requests", "", 1.0),
        Result("aider", "key", False, "wrong", "", 1.0),
    ]
    lines = list(table.rows(results))
    assert lines[0] == "| program | version | first prompt | wrong key |"
    assert [line.split(" | ")[2:] for line in lines[2:4]] == [["yes", "2 requests |"], ["", "no |"]]
