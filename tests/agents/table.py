"""The table of results, and its place in docs/clients/README.md."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from tests.agents.cases import CASES, Case
from tests.agents.catalogue import PROGRAMS
from tests.agents.deviations import DEVIATIONS
from tests.agents.programs import PROJECT

README = PROJECT / "docs" / "clients" / "README.md"
# The table, and the reasons below it, are the document's end.
BEGIN = "| program | version |"

# Numbered below the table; several results may have the same.
REASONS = list(dict.fromkeys(DEVIATIONS.values()))


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

    def __str__(self) -> str:
        word = "ok" if self.passed else "explained" if self.explained else "FAILED"
        if self.passed and self.explained:
            word = "UNEXPECTEDLY ok"
        return f"{word:10} {self.program:22} {self.case:9} {self.seconds:6.1f} s  {self.note}"


def rows(results: Sequence[Result]) -> Iterator[str]:
    """Yield the lines of the table, in Markdown, and the reasons of deviations below it."""
    found = {(result.program, result.case): result for result in results}
    cases = [case for case in CASES if any(result.case == case.name for result in results)]
    yield from _head(cases)
    for program in PROGRAMS:
        mine = [found.get((program.name, case.name)) for case in cases]
        if any(mine):
            cells = [_cell(result) if result else "" for result in mine]
            yield f"| {program.title} | {program.version} | " + " | ".join(cells) + " |"
    yield from _reasons()


def _head(cases: Sequence[Case]) -> Iterator[str]:
    yield f"{BEGIN} " + " | ".join(case.title for case in cases) + " |"
    yield "|---" * (len(cases) + 2) + "|"


def _cell(result: Result) -> str:
    if result.explained:
        return f"[{REASONS.index(result.explained) + 1}]"
    return (result.note or "yes") if result.passed else "no"


def _reasons() -> Iterator[str]:
    if REASONS:
        yield ""
    yield from (f"{number}. {reason}" for number, reason in enumerate(REASONS, 1))


def junit(results: Sequence[Result]) -> bytes:
    """Return the results as JUnit XML; an explained failure passes."""
    suite = ElementTree.Element("testsuite")
    for result in results:
        name = f"{result.program} {result.case}"
        entry = ElementTree.SubElement(suite, "testcase", name=name)
        if not result.is_expected:
            ElementTree.SubElement(entry, "failure", message=str(result))
    return ElementTree.tostring(suite)


def write(results: Sequence[Result]) -> None:
    """Write the lines of these programs into docs/clients/README.md; other lines stay."""
    text = README.read_text()
    before, _, published = text.partition(BEGIN)
    lines = {line.split(" | ")[0]: line for line in published.splitlines()}
    lines |= {line.split(" | ")[0]: line for line in rows(results)}
    table = [lines[f"| {program.title}"] for program in PROGRAMS if f"| {program.title}" in lines]
    written = "\n".join([*_head(CASES), *table, *_reasons()])
    README.write_text(f"{before}{written}\n")
