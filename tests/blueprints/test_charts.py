"""Bar charts and their tables."""

from datetime import date, timedelta

import pytest
from flask import Flask, render_template_string

from promptly.blueprints.charts import Series, compact, every_day, stacked

START = date(2026, 11, 1)


def days(number: int) -> list[date]:
    return [START + timedelta(days=index) for index in range(number)]


def test_bars_stand_on_each_other_and_stay_inside() -> None:
    first, second = Series("first", "Prompt", [0, 300, 1]), Series("second", "Answer", [0, 90, 0])
    chart = stacked(days(3), [first, second])
    nothing, high, low = chart.bars
    assert [segment.height for segment in nothing.segments] == [0, 0]
    below, above = high.segments
    assert below.y + below.height == chart.height
    assert above.y + above.height == pytest.approx(below.y)
    assert above.y >= 0 and below.height / above.height == pytest.approx(300 / 90, rel=0.01)
    # A small value is still a visible line.
    assert low.segments[0].height >= 1
    assert chart.top == 400
    assert (chart.busy_days, first.total, high.total) == ([low, high], 301, 390)
    assert all(bar.x + chart.bar_width <= chart.width for bar in chart.bars)


@pytest.mark.parametrize(
    ("highest", "top"), [(0, 2), (1, 2), (2, 2), (3, 4), (9, 10), (11, 20), (4_100, 6_000)]
)
def test_the_top_is_a_round_number(highest: int, top: int) -> None:
    assert stacked(days(1), [Series("first", "x", [highest])]).top == top


def test_no_days() -> None:
    assert stacked([], [Series("first", "x", [])]).bars == []


def test_days_of_which_nothing_is_known_are_filled() -> None:
    found = [{"date": "2026-11-02", "requests": 7}]
    filled = every_day(found, START, START + timedelta(days=2), ("requests",))
    assert [row["requests"] for row in filled] == [0, 7, 0]
    assert [row["date"] for row in filled] == [day.isoformat() for day in days(3)]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (999, "999"), (1500, "1.5k"), (20_000_000, "20M"), (3 * 10**9, "3B")],
)
def test_compact_numbers(value: int, shown: str) -> None:
    assert compact(value) == shown


def test_the_drawing_and_its_table(worker_app: Flask) -> None:
    source = (
        '{% from "_macros.html" import chart_figure %}'
        '{{ chart_figure(chart, "Money <in>", "all of it") }}'
    )
    chart = stacked(
        days(2), [Series("first", "A & B", [0, 250])], show=lambda cents: f"${cents / 100:.2f}"
    )
    with worker_app.test_request_context():
        page = render_template_string(source, chart=chart)
    assert "Money &lt;in&gt;" in page and "A &amp; B" in page and "all of it" in page
    assert page.count("<rect") == 3 and "$2.50" in page and "$4.00" in page
    # The table lists only days with figures.
    assert (
        '<th scope="row">2026-11-02</th>' in page and '<th scope="row">2026-11-01</th>' not in page
    )
    assert " style=" not in page
