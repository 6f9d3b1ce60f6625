"""Tables whose columns are cases: a server, its load, and its runs in several rounds."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

from bench.client import Plan
from bench.measure import Run, measure
from bench.report import aligned, number
from bench.rounds import in_turn
from bench.system import System
from bench.targets import Target
from bench.values import Value

Watch = Callable[[Target, Run], None]


@dataclass
class Case:
    """One column: a server under a load."""

    title: str
    target: Target
    plan: Plan
    measure: Callable[[System, Target, Plan], Run] = measure


@dataclass
class Row:
    """One figure of all cases; a case without it has no samples."""

    title: str
    unit: str
    samples: list[list[float]]
    """The measurements of every round, by case."""
    remark: str = ""

    def cells(self) -> list[str]:
        """Return the row for the table."""
        middles = [number(median(found)) if found else "" for found in self.samples]
        title = f"{self.title} ({self.unit})" if self.unit else self.title
        return [title, *middles, self.remark]


@dataclass
class Section:
    """One table."""

    name: str
    title: str
    columns: list[str]
    rows: list[Row] = field(default_factory=list)
    runs: list[list[Run]] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        """Number of wrong or missing answers in all runs."""
        return sum(sum(run.errors.values()) for runs in self.runs for run in runs)

    def add(self, title: str, unit: str, value: Value, columns: Sequence[int] | None = None) -> Row:
        """Add a figure of all cases, or of those with these numbers."""
        wanted = range(len(self.runs)) if columns is None else columns
        samples = [
            [value(run) for run in runs] if index in wanted else []
            for index, runs in enumerate(self.runs)
        ]
        row = Row(title, unit, samples)
        self.rows.append(row)
        return row

    def as_json(self) -> dict[str, object]:
        """Return everything for the JSON file."""
        return {
            "name": self.name,
            "title": self.title,
            "columns": self.columns,
            "rows": [asdict(row) for row in self.rows],
            "wrong_answers": self.wrong,
            "runs": [[asdict(run) for run in runs] for runs in self.runs],
        }


def run_cases(
    system: System, name: str, title: str, cases: Sequence[Case], rounds: int, watch: Watch
) -> Section:
    """Run all cases in turn, in an order that changes from round to round."""
    runs: dict[str, list[Run]] = {case.title: [] for case in cases}
    for index in range(rounds):
        for case in in_turn(cases, index):
            run = case.measure(system, case.target, case.plan)
            watch(case.target, run)
            runs[case.title].append(run)
    return Section(name, title, list(runs), runs=list(runs.values()))


def table(section: Section) -> str:
    """Return a section as aligned text."""
    lines = [
        section.title,
        aligned([["", *section.columns, ""], *(r.cells() for r in section.rows)]),
    ]
    if section.wrong:
        lines.append(f"{section.wrong} WRONG ANSWERS")
    return "\n".join(lines) + "\n"


def foreign_cores(sections: Sequence[Section]) -> float:
    """Return the median, over all runs, of the cores that other programs kept busy."""
    found = [run.foreign_cores() for part in sections for runs in part.runs for run in runs]
    return median(found) if found else 0.0
