"""Interleaved rounds of one plan against all measured servers, and the resulting figures."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from statistics import median
from typing import TypeVar

from bench.client import Plan
from bench.measure import Run, measure
from bench.report import Figure
from bench.system import System
from bench.targets import Target
from bench.values import Value

T = TypeVar("T")


@dataclass
class Pair:
    """The runs of one scenario: the gateway's (``ours``), nginx's (``theirs``), the base's."""

    ours: list[Run]
    theirs: list[Run]
    base: list[Run] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        """Number of wrong or missing answers in all runs."""
        return sum(sum(run.errors.values()) for run in self.ours + self.theirs + self.base)

    def figure(
        self, name: str, title: str, unit: str, value: Value, limit: float | None = None
    ) -> Figure:
        """Return a value's medians; the limit is a multiple of nginx's, wrong answers miss it."""
        ours, theirs = _mid(self.ours, value), _mid(self.theirs, value)
        wrong = self.wrong if limit is not None else 0
        samples = self._samples(value, self.theirs)
        return Figure(name, title, unit, ours, theirs, limit, errors=wrong, samples=samples)

    def absolute(
        self,
        name: str,
        title: str,
        unit: str,
        value: Value,
        limit: float | None = None,
        *,
        judged: bool = True,
    ) -> Figure:
        """Like ``figure``, with a limit in the value's own unit."""
        figure = self.figure(name, title, unit, value, limit)
        figure.limit_is_ratio = False
        figure.judged = judged
        return figure

    def alone(
        self, name: str, title: str, unit: str, value: Value, reference: Figure | None = None
    ) -> Figure:
        """Return a figure that nginx lacks; nginx's of ``reference`` may stand in for it."""
        figure = Figure(name, title, unit, _mid(self.ours, value), samples=self._samples(value))
        if reference is not None:
            figure.nginx = reference.nginx
            figure.samples["nginx"] = reference.samples["nginx"]
        return figure

    def _samples(self, value: Value, nginx: Sequence[Run] = ()) -> dict[str, list[float]]:
        runs = {"gateway": self.ours, "nginx": nginx, "base": self.base}
        return {name: [value(run) for run in found] for name, found in runs.items()}


def _mid(runs: list[Run], value: Value) -> float:
    return median(value(run) for run in runs)


def in_turn(targets: Sequence[T], number: int) -> list[T]:
    """Return the order of a round: rotated by one each time, and every other one backwards.

    Three targets thus take all six orders in six rounds. Rotation alone would let each follow the
    same one nearly always, and bear what that leaves behind for PostgreSQL to do.
    """
    first = number % len(targets)
    order = [*targets[first:], *targets[:first]]
    return order[::-1] if number % 2 else order


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
    base: Target | None = None
    """The gateway of the commit with which this one is compared."""
    rounds: int = 3
    quick: bool = False
    watch: Callable[[Target, Run], None] = _no_watch
    around: Callable[[Target, Plan], AbstractContextManager[None]] = _no_context
    runs: dict[str, list[Run]] = field(default_factory=dict)

    @property
    def targets(self) -> list[Target]:
        """All measured servers."""
        others = [] if self.base is None else [self.base]
        return [self.nginx, *others, self.gateway]

    def seconds(self, full: float, quick: float) -> float:
        """Return the length of a run, shorter with ``quick``."""
        return quick if self.quick else full

    def foreign_cores(self) -> float:
        """Return the median, over all runs, of the cores that other programs kept busy."""
        return median(run.foreign_cores() for runs in self.runs.values() for run in runs)

    def interleave(self, name: str, plan: Callable[[Target], Plan]) -> Pair:
        """Run a plan against nginx, the gateway, nginx, the gateway, ... for all rounds.

        With a base, all three take turns, and the order changes from round to round.
        """
        runs: dict[str, list[Run]] = {"gateway": [], "nginx": [], "base": []}
        for number in range(self.rounds):
            for target in self.targets if self.base is None else in_turn(self.targets, number):
                asked = plan(target)
                with self.around(target, asked):
                    run = measure(self.system, target, asked)
                self.watch(target, run)
                runs[target.name].append(run)
        self.runs[name] = runs["gateway"] + runs["nginx"] + runs["base"]
        return Pair(runs["gateway"], runs["nginx"], runs["base"])
