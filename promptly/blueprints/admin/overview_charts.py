"""The charts of the panel's first page, from the daily totals."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from promptly import money
from promptly.blueprints.charts import Chart, Series, plain, stacked
from promptly.models.states import Outcome

CHART_DAYS = 30
DAY_MS = 86_400_000

# Colour, label and outcomes of each group; the last takes every outcome that is not listed.
GROUPS = (
    ("first", "completed", (Outcome.COMPLETED,)),
    (
        "second",
        "cut short",
        (
            Outcome.CLIENT_DISCONNECTED,
            Outcome.BALANCE_EXHAUSTED,
            Outcome.KEY_LIMIT_REACHED,
            Outcome.ACCOUNT_DELETED,
            Outcome.ACCOUNT_SUSPENDED,
        ),
    ),
    ("third", "rejected", (Outcome.REJECTED,)),
    ("fourth", "failed", ()),
)


@dataclass(frozen=True)
class Figure:
    """A chart with its title and summary.

    A page shows eight of them, so each is drawn as few paths, and they share one table.
    """

    title: str
    summary: str
    chart: Chart

    @property
    def paths(self) -> list[tuple[str, str]]:
        """Class of each series, and its bars as one SVG path."""
        width = f"{self.chart.bar_width:g}"
        return [
            (
                series.name,
                "".join(
                    f"M{bar.x:g} {part.y:g}h{width}v{part.height:g}h-{width}z"
                    for bar in self.chart.bars
                    for part in [bar.segments[index]]
                    if part.value
                ),
            )
            for index, series in enumerate(self.chart.series)
        ]

    @property
    def days(self) -> list[tuple[str, str]]:
        """Left edge of each day in the drawing, and its figures in words."""
        show = self.chart.show
        return [
            (
                f"{bar.x - 1.5:g}",
                f"{bar.day}: " + ", ".join(f"{show(p.value)} {p.label}" for p in bar.segments),
            )
            for bar in self.chart.bars
        ]


def table(figures: list[Figure]) -> tuple[list[str], list[tuple[date, list[str]]]]:
    """Return headings and rows of all figures, newest day first, without empty days."""
    headings = [
        f"{figure.title}: {series.label}" if len(figure.chart.series) > 1 else figure.title
        for figure in figures
        for series in figure.chart.series
    ]
    rows = []
    for index, bar in enumerate(figures[0].chart.bars):
        segments = [
            (figure.chart.show, part)
            for figure in figures
            for part in figure.chart.bars[index].segments
        ]
        if any(part.value for _, part in segments):
            rows.append((bar.day, [show(part.value) for show, part in segments]))
    return headings, rows[::-1]


def chart_days(today: date) -> list[date]:
    """Return the days that charts show, oldest first."""
    return [today - timedelta(days=number) for number in range(CHART_DAYS - 1, -1, -1)]


def usage_figures(days: list[date], totals: list[dict[str, Any]]) -> list[Figure]:
    """Chart requests, tokens, active accounts and upstream load of each day."""
    by_day = {row["day"]: row for row in totals}

    def values(name: str) -> list[int]:
        return [int(by_day[day][name]) if day in by_day else 0 for day in days]

    requests = Series("first", "requests", values("requests"))
    prompt, cached = values("prompt_tokens"), values("cached_prompt_tokens")
    new = [whole - part for whole, part in zip(prompt, cached, strict=True)]
    tokens = [
        Series("third", "cached prompt", cached),
        Series("first", "new prompt", new),
        Series("second", "completion", values("completion_tokens")),
    ]
    active = Series("first", "active accounts", values("active_accounts"))
    load = Series("third", "concurrent requests", [_load(ms) for ms in values("duration_ms")])
    used = sum(series.total for series in tokens)
    return [
        Figure("Requests", f"{requests.total:,} in 30 days", stacked(days, [requests])),
        Figure("Tokens", f"{used:,} in 30 days", stacked(days, tokens)),
        Figure("Active accounts", "per day", stacked(days, [active])),
        Figure(
            "Upstream load",
            "average number of concurrent requests",
            stacked(days, [load], show=_hundredths, axis=_hundredths),
        ),
    ]


def outcome_figure(days: list[date], rows: list[dict[str, Any]]) -> Figure:
    """Chart the outcomes of each day's requests, in four groups."""
    group_of = {outcome: name for name, _, outcomes in GROUPS for outcome in outcomes}
    counts: dict[tuple[date, str], int] = {}
    for row in rows:
        key = (row["day"], group_of.get(row["outcome"], GROUPS[-1][0]))
        counts[key] = counts.get(key, 0) + row["requests"]
    series = [
        Series(name, label, [counts.get((day, name), 0) for day in days])
        for name, label, _ in GROUPS
    ]
    total = sum(part.total for part in series)
    failed = series[-1].total / total if total else 0.0
    return Figure("Outcomes", f"{failed:.2%} failed", stacked(days, series))


def sign_up_figure(days: list[date], accounts: dict[date, int]) -> Figure:
    """Chart the new accounts of each day."""
    series = Series("first", "new accounts", [accounts.get(day, 0) for day in days])
    return Figure("Sign-ups", f"{series.total:,} in 30 days", stacked(days, [series]))


def revenue_figures(
    days: list[date], rows: list[dict[str, Any]], usual_currency: str
) -> list[Figure]:
    """Chart the revenue of each day, separately per currency and for test mode."""
    kinds = {(row["livemode"], row["currency"]): None for row in rows} or {
        (True, usual_currency): None
    }
    return [_revenue_figure(days, rows, livemode, currency) for livemode, currency in kinds]


def _revenue_figure(
    days: list[date], rows: list[dict[str, Any]], livemode: bool, currency: str
) -> Figure:
    earned = {
        row["day"]: int(row["amount_minor"] - row["reversed_minor"])
        for row in rows
        if row["livemode"] == livemode and row["currency"] == currency
    }

    def show(amount_minor: int) -> str:
        return money.shown(amount_minor, currency)

    series = Series(
        "first" if livemode else "fourth", "revenue", [earned.get(day, 0) for day in days]
    )
    title = f"Revenue in {currency}" if livemode else f"Test mode, {currency}"
    summary = f"{show(series.total)} in 30 days" + ("" if livemode else ": no real money")
    return Figure(title, summary, stacked(days, [series], show=show))


def _load(duration_ms: int) -> int:
    return round(duration_ms * 100 / DAY_MS)


def _hundredths(value: int) -> str:
    return plain(value // 100) if value % 100 == 0 else f"{value / 100:.2f}"
