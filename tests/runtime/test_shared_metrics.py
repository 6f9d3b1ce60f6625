"""Metrics that processes share: summed, and kept when one of them is killed."""

import os
import signal
from collections.abc import Callable

import pytest
from prometheus_client.exposition import generate_latest

from promptly.runtime import shared_metrics
from promptly.runtime.shared_metrics import Cells, Families


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> Cells:
    """Cells of this test alone."""
    own = Cells()
    monkeypatch.setattr(shared_metrics, "cells", own)
    return own


def in_killed_child(count: Callable[[], None]) -> None:
    """Count in a child process, which then dies without any clean-up."""
    child = os.fork()
    if child == 0:
        count()
        os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_without_sharing(cells: Cells) -> None:
    families = Families()
    counter, gauge = families.counter("c_total", "C."), families.gauge("g", "G.")
    counter.add()
    counter.add(2.5)
    gauge.set(7)
    gauge.add(-2)
    assert (counter.total(), gauge.total()) == (3.5, 5)
    assert generate_latest(families).decode().splitlines() == [
        "# HELP c_total C.",
        "# TYPE c_total counter",
        "c_total 3.5",
        "# HELP g G.",
        "# TYPE g gauge",
        "g 5.0",
    ]


def test_a_killed_process_keeps_its_counts_but_nothing_open(cells: Cells) -> None:
    families = Families()
    counter, gauge = families.counter("c_total", "C."), families.gauge("g", "G.")
    counter.add(10)
    cells.share(3)

    def begin_five() -> None:
        counter.add(5)
        gauge.add()

    for column in (1, 2):
        cells.use(column)
        in_killed_child(begin_five)
    assert (counter.total(), gauge.total()) == (20, 2)
    cells.clear_gauges(1)
    assert (counter.total(), gauge.total()) == (20, 1)
    # The successor of the other one takes its column over.
    cells.use(2)
    assert (counter.total(), gauge.total()) == (20, 0)
    in_killed_child(lambda: counter.add(1))
    assert counter.total() == 21


def test_a_process_without_a_column_counts_for_nobody(cells: Cells) -> None:
    counter = Families().counter("c_total", "C.")
    cells.share(1)
    cells.use(None)
    counter.add()
    assert counter.total() == 0


def test_metrics_are_defined_before_sharing(cells: Cells) -> None:
    families = Families()
    families.counter("c_total", "C.")
    cells.share(2)
    with pytest.raises(RuntimeError, match="before their memory is shared"):
        families.counter("late_total", "Late.")


def test_histograms(cells: Cells) -> None:
    families = Families()
    histogram = families.histogram("h", "H.", (0.1, 1))
    cells.share(2)
    # A bound belongs to the values below it.
    for value in (0.05, 0.1, 0.5, 1, 3):
        histogram.observe(value)
    cells.use(1)
    histogram.observe(2)
    buckets, total = histogram.totals()
    assert buckets == [("0.1", 2), ("1.0", 4), ("+Inf", 6)]
    assert total == pytest.approx(6.65)
    lines = generate_latest(families).decode().splitlines()[2:]
    assert lines[:3] == [
        'h_bucket{le="0.1"} 2.0',
        'h_bucket{le="1.0"} 4.0',
        'h_bucket{le="+Inf"} 6.0',
    ]
    assert lines[3] == "h_count 6.0"


def test_labels(cells: Cells) -> None:
    families = Families()
    counters = families.counters("c_total", "C.", "kind", ["a", "b"])
    histograms = families.histograms_by("h", "H.", ["x", "y"], [("1", "2"), ("3", "4")], (1,))
    counters["b"].add()
    histograms["1", "2"].observe(0.5)
    text = generate_latest(families).decode()
    # All counters, since an increase needs a value before it; histograms once they have one.
    assert 'c_total{kind="a"} 0.0' in text
    assert 'c_total{kind="b"} 1.0' in text
    assert 'h_count{x="1",y="2"} 1.0' in text
    assert 'x="3"' not in text
