"""Interleaved rounds of one plan against nginx and the gateway, and the resulting figures."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from statistics import median

from bench.client import Plan
from bench.measure import Run, measure
from bench.report import Figure
from bench.system import System
from bench.targets import Target

Value = Callable[[Run], float]


@dataclass
class Pair:
    """The runs of one scenario: the gateway's (``ours``) and nginx's (``theirs``)."""

    ours: list[Run]
    theirs: list[Run]

    @property
    def wrong(self) -> int:
        """Number of wrong or missing answers in all runs."""
        return sum(sum(run.errors.values()) for run in self.ours + self.theirs)

    def figure(
        self, name: str, title: str, unit: str, value: Value, limit: float | None = None
    ) -> Figure:
        """Return a value's medians; the limit is a multiple of nginx's, wrong answers miss it."""
        ours, theirs = _mid(self.ours, value), _mid(self.theirs, value)
        wrong = self.wrong if limit is not None else 0
        return Figure(name, title, unit, ours, theirs, limit, errors=wrong)

    def absolute(
        self, name: str, title: str, unit: str, value: Value, limit: float | None = None
    ) -> Figure:
        """Like ``figure``, with a limit in the value's own unit."""
        figure = self.figure(name, title, unit, value, limit)
        figure.limit_is_ratio = False
        return figure

    def alone(self, name: str, title: str, unit: str, value: Value) -> Figure:
        """Return a figure that nginx does not have."""
        return Figure(name, title, unit, _mid(self.ours, value))


def _mid(runs: list[Run], value: Value) -> float:
    return median(value(run) for run in runs)


def _no_context(_target: Target, _plan: Plan) -> AbstractContextManager[None]:
    return nullcontext()


def _no_watch(_target: Target, _run: Run) -> None:
    """Print nothing."""


@dataclass
class Bench:
    """The servers of this benchmark, and how thorough it is."""

    system: System
    gateway: Target
    nginx: Target
    rounds: int = 3
    quick: bool = False
    watch: Callable[[Target, Run], None] = _no_watch
    around: Callable[[Target, Plan], AbstractContextManager[None]] = _no_context
    runs: dict[str, list[Run]] = field(default_factory=dict)

    def seconds(self, full: float, quick: float) -> float:
        """Return the length of a run, shorter with ``quick``."""
        return quick if self.quick else full

    def foreign_cores(self) -> float:
        """Return the median, over all runs, of the cores that other programs kept busy."""
        return median(run.foreign_cores() for runs in self.runs.values() for run in runs)

    def interleave(self, name: str, plan: Callable[[Target], Plan]) -> Pair:
        """Run a plan against nginx, the gateway, nginx, the gateway, ... for all rounds."""
        runs: dict[str, list[Run]] = {"gateway": [], "nginx": []}
        for _ in range(self.rounds):
            for target in (self.nginx, self.gateway):
                asked = plan(target)
                with self.around(target, asked):
                    run = measure(self.system, target, asked)
                self.watch(target, run)
                runs[target.name].append(run)
        self.runs[name] = runs["gateway"] + runs["nginx"]
        return Pair(runs["gateway"], runs["nginx"])
