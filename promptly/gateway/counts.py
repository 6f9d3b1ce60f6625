"""The counts that upstream has reported for one answer so far.

Upstream's word is taken only as far as it can be a count: a negative one would mint tokens, and one
that the database cannot store would lose the charge.
"""

from collections.abc import Iterable
from math import isfinite
from typing import Any

# The largest count that the database stores (int4), a thousand times any model's context.
MOST_TOKENS = 2**31 - 1


def count_of(value: object, known: int = 0) -> int:
    """Return a count that upstream reported, at most MOST_TOKENS; `known` if it is none."""
    if isinstance(value, float) and isfinite(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        return known
    return min(value, MOST_TOKENS)


def are_counts(first: object, second: object, third: object) -> bool:
    """Return whether three values that upstream reported are counts, at the cost of one check."""
    return (
        type(first) is int
        and type(second) is int
        and type(third) is int
        # MOST_TOKENS has all bits set, so that no single value can be out of range.
        and 0 <= first | second | third <= MOST_TOKENS
    )


def corrected(report: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return a report whose named fields are counts; the report itself if they all are."""
    wrong = {}
    for name in names:
        value = report.get(name, 0)
        if type(value) is not int or not 0 <= value <= MOST_TOKENS:
            wrong[name] = count_of(value)
    return {**report, **wrong} if wrong else report


class Counts:
    """Running counts of one answer, as reported by upstream; they only grow.

    `prompt_tokens` are the prompt's tokens processed so far, `prompt_size` all of them once known,
    `reused_tokens` those that upstream had in its cache, and `prompt_ms` the time that reading the
    others took; `completion_tokens` are those generated, `limit` how many of them the hold covers.
    `cached_tokens` are the reused ones that the account's own requests had left there.
    """

    __slots__ = (
        "cached_tokens",
        "completion_tokens",
        "first_token_at",
        "limit",
        "prompt_ms",
        "prompt_size",
        "prompt_tokens",
        "reused_tokens",
    )

    def __init__(self) -> None:
        self.prompt_size: int | None = None
        self.prompt_tokens = 0
        self.prompt_ms = 0
        self.cached_tokens = 0
        self.reused_tokens = 0
        self.completion_tokens = 0
        self.limit: int | None = None
        self.first_token_at: float | None = None

    def corrected_usage(self, usage: dict[str, Any]) -> dict[str, Any]:
        """Return upstream's usage, corrected where it differs from our counts."""
        prompt, completion = self.prompt_tokens, self.completion_tokens
        if (usage["prompt_tokens"], usage["completion_tokens"]) != (prompt, completion):
            usage = {
                **usage,
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            }
        details = usage.get("prompt_tokens_details")
        if not isinstance(details, dict):
            details = {}
        cached = details.get("cached_tokens")
        if type(cached) is not int or cached != self.cached_tokens:
            cached = self.cached_tokens
            usage = {**usage, "prompt_tokens_details": {**details, "cached_tokens": cached}}
        return usage
