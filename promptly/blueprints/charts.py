"""Daily figures as stacked bars: SVG coordinates that templates only have to place.

Computed on the server, so that charts need no script (ADR 13).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

HEIGHT = 100.0
BAR_WIDTH = 7.0
STEP = 10.0
# Any non-zero value is drawn at least as a visible line.
LEAST_HEIGHT = 1.0


@dataclass(frozen=True)
class Series:
    """One colour of the bars: `name` is its CSS class, `values` has one entry per day."""

    name: str
    label: str
    values: list[int]

    @property
    def total(self) -> int:
        return sum(self.values)


@dataclass(frozen=True)
class Segment:
    """A series' part of one day's bar, in units of the drawing."""

    name: str
    label: str
    value: int
    y: float
    height: float


@dataclass(frozen=True)
class Bar:
    """The bar of one day; `x` is its left edge."""

    day: date
    x: float
    segments: list[Segment]

    @property
    def total(self) -> int:
        return sum(segment.value for segment in self.segments)


@dataclass(frozen=True)
class Chart:
    """A row of bars; the full height stands for the value `top`."""

    bars: list[Bar]
    series: list[Series]
    top: int
    show: Callable[[int], str]
    axis: Callable[[int], str]
    width: float
    height: float = HEIGHT
    bar_width: float = BAR_WIDTH

    @property
    def busy_days(self) -> list[Bar]:
        """Bars with a non-zero total, newest first."""
        return [bar for bar in reversed(self.bars) if bar.total]


def plain(value: int) -> str:
    """Format a number with thousands separators."""
    return f"{value:,}"


def compact(value: int) -> str:
    """Format a number for an axis: 850, 1.5k, 20M."""
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return str(value)


def stacked(
    days: list[date],
    series: list[Series],
    show: Callable[[int], str] = plain,
    axis: Callable[[int], str] | None = None,
) -> Chart:
    """Return the bars of consecutive days, the first series at the bottom.

    `show` formats values; `axis` formats those next to the drawing, where there is less room.
    """
    highest = max(
        (sum(values) for values in zip(*(s.values for s in series), strict=True)), default=0
    )
    top = _round_top(highest)
    bars = []
    for index, day in enumerate(days):
        segments, y = [], HEIGHT
        for part in series:
            height = _scaled(part.values[index], top)
            y = round(y - height, 2)
            segments.append(Segment(part.name, part.label, part.values[index], y, height))
        bars.append(Bar(day, index * STEP, segments))
    return Chart(
        bars=bars,
        series=series,
        top=top,
        show=show,
        axis=axis or (compact if show is plain else show),
        width=max(len(days) * STEP - (STEP - BAR_WIDTH), BAR_WIDTH),
    )


def every_day(
    found: list[dict[str, Any]], start: date, end: date, names: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Return daily rows (`date` in ISO 8601, and figures), with zeros for missing days."""
    by_date = {row["date"]: row for row in found}
    nothing = dict.fromkeys(names, 0)
    days = [start + timedelta(days=number) for number in range((end - start).days + 1)]
    return [by_date.get(day.isoformat(), {"date": day.isoformat(), **nothing}) for day in days]


def _scaled(value: int, top: int) -> float:
    # The highest bar stays just below the top line.
    return round(max(value / top * (HEIGHT - 1), LEAST_HEIGHT), 2) if value else 0.0


def _round_top(highest: int) -> int:
    """Return the next value, at or above, that is round and has a round half."""
    size = 1
    while True:
        for factor in (2, 4, 6, 8, 10):
            if factor * size >= highest:
                return factor * size
        size *= 10
