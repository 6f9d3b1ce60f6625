"""Intervals, verdicts and the order of rounds in a comparison with a base commit."""

from itertools import permutations

import pytest

from bench.comparison import Ratio, compare, interval, is_worse, table
from bench.report import Figure
from bench.rounds import in_turn


def figure(now: list[float], base: list[float], **more: object) -> Figure:
    samples = {"gateway": now, "base": base, "nginx": [10.0] * len(now)}
    made = Figure("cpu", "CPU", "us", now[0], samples=samples)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def verdict(now: list[float], base: list[float], **more: object) -> str:
    return compare([figure(now, base, **more)])[0].verdict


@pytest.mark.parametrize(
    ("rounds", "low", "high"),
    # The ranks in the tables of confidence intervals for a median, at 95 %.
    [(6, 1, 6), (7, 1, 7), (8, 1, 8), (9, 2, 8), (12, 3, 10), (15, 4, 12), (20, 6, 15)],
)
def test_an_interval_lies_between_two_order_statistics(rounds: int, low: int, high: int) -> None:
    values = [float(rank) for rank in range(rounds, 0, -1)]
    assert interval(values) == (low, high)


def test_five_values_give_no_interval() -> None:
    with pytest.raises(ValueError, match="six"):
        interval([1.0] * 5)


@pytest.mark.parametrize(
    ("low", "high", "worse"),
    [
        (0.90, 0.95, False),
        (0.97, 1.20, False),
        (1.00, 1.30, False),
        (1.02, 1.07, False),
        (1.02, 1.08, True),
        (1.10, 1.20, True),
    ],
)
def test_a_cost_is_worse_if_it_has_risen_and_may_exceed_the_tolerance(
    low: float, high: float, worse: bool
) -> None:
    assert is_worse(Ratio((low + high) / 2, low, high)) is worse


def test_ratios_are_taken_within_each_round() -> None:
    # The machine becomes ten times slower, but each round is 5 % more expensive than the base.
    base = [100.0 * slower for slower in range(1, 11)]
    ratio = Ratio.of([1.05 * value for value in base], base)
    assert ratio is not None
    assert (ratio.middle, ratio.low, ratio.high) == pytest.approx((1.05, 1.05, 1.05))


def test_a_rate_is_worse_if_it_falls() -> None:
    assert verdict([120.0] * 7, [100.0] * 7) == "worse"
    assert verdict([120.0] * 7, [100.0] * 7, unit="1/s") == "not worse"
    assert verdict([80.0] * 7, [100.0] * 7, unit="1/s") == "worse"


def test_a_rate_is_shown_as_it_is() -> None:
    (compared,) = compare([figure([80.0] * 7, [100.0] * 7, unit="1/s")])
    assert compared.now_to_base == Ratio(0.8, 0.8, 0.8)


def test_only_correct_and_complete_measurements_pass() -> None:
    fast, slow = [50.0] * 7, [100.0] * 7
    assert verdict(fast, slow) == "not worse"
    assert verdict(fast, slow, errors=2) == "2 WRONG ANSWERS"
    assert verdict([*fast[:6], 0.0], slow) == "NOT MEASURED"
    assert verdict([*fast[:6], float("inf")], slow) == "NOT MEASURED"
    assert verdict(slow, fast, judged=False) == ""
    failed = [
        compare([made])[0].failed
        for made in (
            figure(fast, slow),
            figure(slow, fast, judged=False),
            figure(slow, fast),
            figure(fast, slow, errors=2),
            figure([0.0] * 7, slow),
        )
    ]
    assert failed == [False, False, True, True, True]


def test_the_table_has_a_row_for_each_measured_figure() -> None:
    alone = figure([2.0] * 7, [1.0] * 7, title="PostgreSQL's CPU")
    del alone.samples["nginx"]
    derived = Figure("added", "added", "ms", 1.0)
    rows = table(compare([figure([98.0] * 7, [100.0] * 7), alone, derived])).splitlines()
    assert [" ".join(row.split()) for row in rows[2:]] == [
        "CPU (us) 100 98 10.0 (10.0-10.0) 9.80 (9.80-9.80) 0.98 (0.98-0.98) not worse",
        "PostgreSQL's CPU (us) 1 2 2.00 (2.00-2.00) worse",
    ]


def test_three_servers_take_all_orders_in_six_rounds() -> None:
    orders = [tuple(in_turn(["nginx", "base", "now"], number)) for number in range(12)]
    assert set(orders[:6]) == set(permutations(["nginx", "base", "now"]))
    assert orders[6:] == orders[:6]
