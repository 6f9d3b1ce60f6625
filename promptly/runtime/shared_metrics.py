"""Metrics in memory that a master shares with its children, in the form that Prometheus reads.

Each process counts in a column of its own, so that no lock between processes is needed, and a
scrape of any of them adds up all columns. A column outlives its process: nothing is lost when that
is killed, and its successor counts on from there. All metrics are defined before the memory is
shared; without sharing they belong to this process alone.
"""

import mmap
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Generic, Protocol, TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from promptly.runtime import native_threads

CELL_BYTES = 8


class Cells:
    """The numbers behind the metrics of a process and its siblings; `own` is this one's column."""

    def __init__(self) -> None:
        self.own: Any = array("d")
        self.lock = native_threads.lock()
        self._columns: list[Any] = [self.own]
        self._gauges: list[int] = []

    def reserve(self, number: int, *, gauge: bool = False) -> int:
        """Return the index of the first of `number` new cells, which are 0."""
        if not isinstance(self.own, array):
            raise RuntimeError("define metrics before their memory is shared")
        start = len(self.own)
        self.own.extend([0.0] * number)
        if gauge:
            self._gauges += range(start, start + number)
        return start

    def share(self, columns: int) -> None:
        """Move all cells to memory that children inherit, with a column for each of them."""
        size = len(self.own)
        memory = memoryview(mmap.mmap(-1, max(columns * size, 1) * CELL_BYTES)).cast("d")
        self._columns = [memory[start : start + size] for start in range(0, columns * size, size)]
        self._columns[0][:] = self.own
        self.own = self._columns[0]

    @property
    def columns(self) -> int:
        """The number of columns."""
        return len(self._columns)

    def use(self, column: int | None) -> None:
        """Count in a column that no living process uses; None: for nobody."""
        if column is None:
            self.own = array("d", bytes(len(self.own) * CELL_BYTES))
            return
        self.clear_gauges(column)
        self.own = self._columns[column]

    def clear_gauges(self, column: int | None) -> None:
        """Set a dead process's gauges to 0; its counters stay."""
        if column is not None:
            for at in self._gauges:
                self._columns[column][at] = 0.0

    def totals(self, start: int, number: int) -> list[float]:
        """Return the sums of successive cells over all processes."""
        return [sum(column[at] for column in self._columns) for at in range(start, start + number)]


# Of this process; children inherit it.
cells = Cells()


class Counter:
    """A number that only grows."""

    __slots__ = ("_at",)

    def __init__(self) -> None:
        self._at = cells.reserve(1)

    def add(self, amount: float = 1) -> None:
        with cells.lock:
            cells.own[self._at] += amount

    def total(self) -> float:
        """Return the number over all processes."""
        return cells.totals(self._at, 1)[0]


class Gauge(Counter):
    """A number that is 0 again when its process dies; the total is the sum of all processes'."""

    __slots__ = ()

    def __init__(self) -> None:
        self._at = cells.reserve(1, gauge=True)

    def set(self, value: float) -> None:
        """Set this process's part."""
        cells.own[self._at] = value


class Histogram:
    """How often values lay between bounds, each of which belongs to the values below it."""

    __slots__ = ("_at", "_bounds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        # A cell for each bound, one for larger values, one for the sum.
        self._at = cells.reserve(len(bounds) + 2)

    def observe(self, value: float) -> None:
        at = self._at + bisect_left(self._bounds, value)
        with cells.lock:
            own = cells.own
            own[at] += 1
            own[self._at + len(self._bounds) + 1] += value

    def totals(self) -> tuple[list[tuple[str, float]], float]:
        """Return the cumulative buckets of all processes by their bounds, and the sum."""
        *numbers, total = cells.totals(self._at, len(self._bounds) + 2)
        names = [*map(str, map(float, self._bounds)), "+Inf"]
        return list(zip(names, accumulate(numbers), strict=True)), total


class Family(Protocol):
    """A metric with all its label values."""

    def collect(self) -> Metric: ...


Member = TypeVar("Member", Counter, Gauge, Histogram)


class _Family(Generic[Member]):
    def __init__(
        self, name: str, text: str, labels: Sequence[str], members: Mapping[tuple[str, ...], Member]
    ) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._members: Mapping[tuple[str, ...], Member] = members


class _Counters(_Family[Counter]):
    def collect(self) -> Metric:
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, member in self._members.items():
            family.add_metric(labels, member.total())
        return family


class _Gauges(_Family[Gauge]):
    def collect(self) -> Metric:
        family = GaugeMetricFamily(self._name, self._text, labels=self._labels)
        for labels, member in self._members.items():
            family.add_metric(labels, member.total())
        return family


class _Histograms(_Family[Histogram]):
    def collect(self) -> Metric:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, member in self._members.items():
            buckets, total = member.totals()
            # Each has a dozen lines: with labels, leave out those without any observation.
            if buckets[-1][1] or not labels:
                family.add_metric(labels, buckets, total)
        return family


class Families:
    """A group of metrics, which one scrape reads together."""

    def __init__(self) -> None:
        self._families: list[Family] = []

    def collect(self) -> Iterable[Metric]:
        """Return all metrics, as prometheus_client formats them."""
        return [family.collect() for family in self._families]

    def counter(self, name: str, text: str) -> Counter:
        return self._counters(name, text, (), [()])[()]

    def counters(
        self, name: str, text: str, label: str, values: Iterable[str]
    ) -> dict[str, Counter]:
        """Define a counter for each value of a label."""
        made = self._counters(name, text, (label,), [(value,) for value in values])
        return {key[0]: member for key, member in made.items()}

    def counters_by(
        self, name: str, text: str, labels: Sequence[str], values: Collection[tuple[str, ...]]
    ) -> dict[tuple[str, ...], Counter]:
        """Define a counter for each combination of several labels."""
        return self._counters(name, text, labels, values)

    def gauge(self, name: str, text: str) -> Gauge:
        member = Gauge()
        self._families.append(_Gauges(name, text, (), {(): member}))
        return member

    def histogram(self, name: str, text: str, bounds: Sequence[float]) -> Histogram:
        return self.histograms_by(name, text, (), [()], bounds)[()]

    def histograms_by(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        values: Collection[tuple[str, ...]],
        bounds: Sequence[float],
    ) -> dict[tuple[str, ...], Histogram]:
        """Define a histogram for each combination of labels."""
        members = {key: Histogram(bounds) for key in values}
        self._families.append(_Histograms(name, text, labels, members))
        return members

    def _counters(
        self, name: str, text: str, labels: Sequence[str], values: Collection[tuple[str, ...]]
    ) -> dict[tuple[str, ...], Counter]:
        members = {key: Counter() for key in values}
        self._families.append(_Counters(name, text, labels, members))
        return members
