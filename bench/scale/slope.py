"""How a cost changes when a size becomes ten times larger."""

import math
from collections.abc import Sequence
from statistics import median

from bench.comparison import interval
from bench.report import number

# With fewer values, no interval has 95 %.
_FEWEST_FOR_INTERVAL = 6


def per_tenfold(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """Return the slope of the least-squares line of costs over the sizes' decimal logarithms.

    Raises ValueError without two different sizes.
    """
    scale = [math.log10(size) for size in sizes]
    middle, mean = sum(scale) / len(scale), sum(costs) / len(costs)
    spread = sum((x - middle) ** 2 for x in scale)
    if not spread:
        raise ValueError("a slope needs two sizes")
    pairs = zip(scale, costs, strict=True)
    return sum((x - middle) * (cost - mean) for x, cost in pairs) / spread


def describe(sizes: Sequence[int], samples: Sequence[Sequence[float]]) -> str:
    """Return the median of the rounds' slopes with its 95 % interval, and as a share of the cost.

    ``samples`` has the costs of all rounds for each size. With fewer than six rounds the interval
    is the range of the slopes.
    """
    slopes = [per_tenfold(sizes, costs) for costs in zip(*samples, strict=True)]
    few = len(slopes) < _FEWEST_FOR_INTERVAL
    low, high = (min(slopes), max(slopes)) if few else interval(slopes)
    middle = median(slopes)
    share = 100 * middle / median(samples[0])
    return f"{_signed(middle)} ({_signed(low)} to {_signed(high)}) per tenfold, {share:+.1f} %"


def _signed(value: float) -> str:
    return ("+" if value >= 0 else "") + number(value)
