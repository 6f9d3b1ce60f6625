"""The table of results, and its place in docs/clients/README.md."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.agents.cases import CASES
from tests.agents.catalogue import PROGRAMS
from tests.agents.programs import PROJECT

README = PROJECT / "docs" / "clients" / "README.md"
BEGIN = "<!-- make agents: begin -->"
END = "<!-- make agents: end -->"


@dataclass(frozen=True)
class Result:
    """How one case went with one program; `explained` is the reason for an expected failure."""

    program: str
    case: str
    passed: bool
    note: str
    explained: str
    seconds: float

    @property
    def is_expected(self) -> bool:
        return self.passed != bool(self.explained)

    @property
    def cell(self) -> str:
        """The result as a cell of the table, with the number of a footnote to be added."""
        if self.note == "-":
            return "–"
        if self.passed:
            return f"yes: {self.note}" if self.note else "yes"
        return "no" if not self.explained else "see below"

    def __str__(self) -> str:
        word = "ok" if self.passed else "explained" if self.explained else "FAILED"
        if self.passed and self.explained:
            word = "UNEXPECTEDLY ok"
        return f"{word:10} {self.program:22} {self.case:9} {self.seconds:6.1f} s  {self.note}"


def rows(results: Sequence[Result]) -> Iterator[str]:
    """Yield the lines of the table, in Markdown, and the explanations below it."""
    found = {(result.program, result.case): result for result in results}
    cases = [case for case in CASES if any(result.case == case.name for result in results)]
    yield "| program | version | " + " | ".join(case.title for case in cases) + " |"
    yield "|---" * (len(cases) + 2) + "|"
    for program in PROGRAMS:
        mine = [found.get((program.name, case.name)) for case in cases]
        if any(mine):
            cells = [result.cell if result else "" for result in mine]
            yield f"| {program.title} | {program.version} | " + " | ".join(cells) + " |"
    explained = [result for result in results if result.explained]
    if explained:
        yield ""
    titles = {program.name: program.title for program in PROGRAMS}
    names = {case.name: case.title for case in CASES}
    for result in explained:
        yield f"- {titles[result.program]}, {names[result.case]}: {result.explained}"


def write(results: Sequence[Result]) -> None:
    """Replace the table in docs/clients/README.md."""
    text = README.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    lines = "\n".join(rows(results))
    README.write_text(f"{before}{BEGIN}\n\n{lines}\n\n{END}{after}")
