"""Figures, their comparison with targets, and the table."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Figure:
    """One row: the measurements of the gateway and of nginx, and the target."""

    name: str
    title: str
    unit: str
    gateway: float
    nginx: float | None = None
    limit: float | None = None
    limit_is_ratio: bool = True
    errors: int = 0
    judged: bool = True
    """Whether a comparison with a base commit gives a verdict on this figure."""
    samples: dict[str, list[float]] = field(default_factory=dict)
    """The measurements of every round, by the name of the server."""

    @property
    def more_is_better(self) -> bool:
        """Whether the figure is a rate, not a cost."""
        return self.unit == "1/s"

    @property
    def ratio(self) -> float | None:
        """The gateway's figure as a multiple of nginx's."""
        return self.gateway / self.nginx if self.nginx else None

    @property
    def ok(self) -> bool | None:
        """Whether the target is met; None without a target. Wrong answers never pass."""
        if self.errors:
            return False
        value = self.ratio if self.limit_is_ratio else self.gateway
        return None if self.limit is None or value is None else value <= self.limit

    def as_json(self) -> dict[str, object]:
        """Return the row for the JSON file."""
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "gateway": self.gateway,
            "nginx": self.nginx,
            "ratio": self.ratio,
            "limit": self.limit,
            "limit_is": "ratio" if self.limit_is_ratio else self.unit,
            "wrong_answers": self.errors,
            "ok": self.ok,
        }

    def cells(self) -> list[str]:
        """Return the row for the table."""
        limit = "" if self.limit is None else f"<= {number(self.limit)}"
        limit += "" if not limit else " x" if self.limit_is_ratio else f" {self.unit}"
        verdict = {True: "ok", False: "MISSED", None: ""}[self.ok]
        return [
            f"{self.title} ({self.unit})",
            number(self.gateway),
            "" if self.nginx is None else number(self.nginx),
            "" if self.ratio is None or not self.limit_is_ratio else f"{self.ratio:.2f}",
            limit,
            f"{self.errors} WRONG ANSWERS" if self.errors else verdict,
        ]


def number(value: float) -> str:
    """Return a number with three digits or more."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(figures: Sequence[Figure]) -> str:
    """Return all rows as aligned text."""
    head = ["figure", "gateway", "nginx", "ratio", "target", ""]
    return aligned([head, *(figure.cells() for figure in figures)])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a table with a line below the first; the inner columns are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *middle, last in rows:
        cells = [cell.rjust(width) for cell, width in zip(middle, widths[1:-1], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells, last]).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)
