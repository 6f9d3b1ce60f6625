"""Compares the current tree with a base commit by the ratios of their figures within each round."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, inf
from statistics import median

from bench.report import Figure, aligned, number

MINIMUM_ROUNDS = 7
_CONFIDENCE = 0.95
_TOLERANCE = 1.08


@dataclass(frozen=True)
class Ratio:
    """The median of the rounds' ratios, and the ends of its confidence interval."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, above: Sequence[float], below: Sequence[float]) -> "Ratio | None":
        """Divide round by round; None if a round lacks a positive, finite measurement."""
        if not above or not all(0 < value < inf for value in (*above, *below)):
            return None
        ratios = [one / other for one, other in zip(above, below, strict=True)]
        return cls(median(ratios), *interval(ratios))

    def __str__(self) -> str:
        return f"{_short(self.middle)} ({_short(self.low)}-{_short(self.high)})"


def _short(value: float) -> str:
    """Return a ratio with enough digits for 1.08, and two for small ones."""
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return an interval that contains the true median with a probability of at least 95 %.

    Raises ValueError for fewer than six values, which cannot give that confidence.
    """
    # Order statistics: each value is below the true median with probability 1/2, so the binomial
    # distribution gives the exact confidence, whatever the distribution of the noise. A bootstrap
    # of seven values is too narrow. Seven rounds give the extremes (98 %); with nine, the second
    # from either end (96 %), so that one disturbed round widens nothing.
    ordered, total = sorted(values), len(values)
    rank, tail = 0, 1 / 2**total
    while 2 * tail <= 1 - _CONFIDENCE:
        rank += 1
        tail += comb(total, rank) / 2**total
    if rank == 0:
        raise ValueError("a 95 % interval needs six values")
    return ordered[rank - 1], ordered[-rank]


def is_worse(cost: Ratio) -> bool:
    """Return whether the cost has risen: not if 1.00 is in the interval or 1.08 above it."""
    return not (cost.low <= 1.0 <= cost.high or cost.high < _TOLERANCE)


@dataclass(frozen=True)
class Comparison:
    """One figure of the current tree, of the base commit and of nginx."""

    figure: Figure
    base_to_nginx: Ratio | None
    now_to_nginx: Ratio | None
    now_to_base: Ratio | None
    verdict: str
    """``""`` if the figure is not judged."""

    @classmethod
    def of(cls, figure: Figure) -> "Comparison":
        """Compare the rounds of a figure."""
        now, base = figure.samples["gateway"], figure.samples["base"]
        nginx = figure.samples.get("nginx", [])
        cost = Ratio.of(base, now) if figure.more_is_better else Ratio.of(now, base)
        return cls(
            figure,
            Ratio.of(base, nginx) if nginx else None,
            Ratio.of(now, nginx) if nginx else None,
            Ratio.of(now, base),
            _verdict(figure, cost),
        )

    @property
    def failed(self) -> bool:
        """Whether the current tree does not pass."""
        return self.verdict not in {"", "not worse"}

    def as_json(self) -> dict[str, object]:
        """Return the comparison for the JSON file, with every round."""
        ratios = {
            "base_to_nginx": self.base_to_nginx,
            "now_to_nginx": self.now_to_nginx,
            "now_to_base": self.now_to_base,
        }
        return {
            "name": self.figure.name,
            "unit": self.figure.unit,
            "rounds": self.figure.samples,
            **{name: ratio and vars(ratio) for name, ratio in ratios.items()},
            "verdict": self.verdict,
        }

    def cells(self) -> list[str]:
        """Return the row for the table."""
        samples = self.figure.samples
        ratios = (self.base_to_nginx, self.now_to_nginx, self.now_to_base)
        return [
            f"{self.figure.title} ({self.figure.unit})",
            number(median(samples["base"])),
            number(median(samples["gateway"])),
            *("" if ratio is None else str(ratio) for ratio in ratios),
            self.verdict,
        ]


def _verdict(figure: Figure, cost: Ratio | None) -> str:
    if figure.errors:
        return f"{figure.errors} WRONG ANSWERS"
    if not figure.judged:
        return ""
    if cost is None:
        return "NOT MEASURED"
    return "worse" if is_worse(cost) else "not worse"


def compare(figures: Sequence[Figure]) -> list[Comparison]:
    """Compare the figures that were measured in rounds; others are derived from these."""
    return [Comparison.of(figure) for figure in figures if figure.samples]


def table(comparisons: Sequence[Comparison]) -> str:
    """Return all comparisons as aligned text; a ratio is followed by its 95 % interval."""
    head = ["figure", "base", "now", "base/nginx", "now/nginx", "now/base", ""]
    return aligned([head, *(comparison.cells() for comparison in comparisons)])
