"""The rows about requests: what the simulated model servers counted against what was charged."""

from dataclasses import dataclass

from prove.evidence import Charge, Count, Evidence
from prove.load import Request
from prove.matching import match
from prove.table import Row

# A killed worker takes along what it has not settled yet: at most a request's last moments, and
# settlements that waited for PostgreSQL.
KILL_REACH_SECONDS = 15.0
EXACT_OUTCOMES = ("completed", "client_disconnected")


@dataclass
class Judged:
    """One request with its count and its charges."""

    request: Request
    counted: Count | None
    charges: list[Charge]
    met_a_kill: bool

    @property
    def charged(self) -> int:
        return sum(charge.tokens for charge in self.charges)

    @property
    def tokens(self) -> int:
        """The tokens counted, 0 if no model server saw the request."""
        return self.counted.tokens if self.counted is not None else 0

    @property
    def is_exact(self) -> bool:
        """Whether the charge must equal the count, not only stay within it.

        It must if promptly read the count to its end. A crashed model server, a killed worker or
        the end of the balance cuts that short, and what was left during the prompt is not final.
        """
        if len(self.charges) != 1 or self.counted is None or self.counted.outcome == "crashed":
            return False
        is_read = self.counted.completion_tokens > 0 or self.counted.outcome == "finished"
        return is_read and self.charges[0].outcome in EXACT_OUTCOMES

    @property
    def is_lost(self) -> bool:
        """Whether output was served, but not charged, without a killed worker as the reason."""
        if self.charges or self.counted is None or not self.counted.completion_tokens:
            return False
        if self.request.end == "whole":
            return True
        return self.counted.outcome != "crashed" and not self.met_a_kill


def judge(evidence: Evidence) -> tuple[list[Judged], list[Charge]]:
    """Return each request with its count and charges, and the charges without a request."""
    matched, unmatched = match(evidence.requests, evidence.charges, evidence.counts)
    judged = [
        Judged(
            request,
            # A model server that crashed before its first token may have been followed by another.
            max(evidence.counts.get(request.tag, []), key=lambda count: count.tokens, default=None),
            matched.get(request.tag, []),
            any(
                request.started_at <= kill <= request.ended_at + KILL_REACH_SECONDS
                for kill in evidence.worker_kills
            ),
        )
        for request in evidence.requests
    ]
    return judged, unmatched


def rows(evidence: Evidence) -> list[Row]:
    """Return the rows of the table about requests and their charges."""
    judged, unmatched = judge(evidence)
    whole = [each for each in judged if each.request.end == "whole"]
    left = [each for each in judged if each.request.end == "left"]
    others = [each for each in judged if each.request.end == "broken"]
    refused = [each for each in judged if each.request.end == "refused"]
    exact = [each for each in [*whole, *left, *others] if each.is_exact]
    inexact = [each for each in [*whole, *left, *others] if not each.is_exact]
    once = sum(len(each.charges) == 1 for each in whole)
    return [
        Row("requests answered in full, each charged once", len(whole), once, len(whole) - once),
        _exact("  their tokens", [each for each in exact if each.request.end == "whole"]),
        _exact("tokens of requests that their client left", _of(exact, "left")),
        _exact("tokens of requests that broke off, count known", _of(exact, "broken")),
        _within("tokens of requests that a kill or an empty balance cut", inexact),
        Row(
            f"refused requests that were charged, of {len(refused):,}",
            0,
            sum(bool(each.charged) for each in refused),
            sum(each.charged for each in refused),
        ),
        _none("requests charged twice", [each for each in judged if len(each.charges) > 1]),
        _none("charges without a request", unmatched),
        _none("requests served, not charged, no worker killed", [e for e in judged if e.is_lost]),
    ]


def _of(judged: list[Judged], end: str) -> list[Judged]:
    return [each for each in judged if each.request.end == end]


def _exact(title: str, judged: list[Judged]) -> Row:
    """Compare sums, and add up the deviations of single requests."""
    found = [(each.tokens, each.charged + _uncharged(each)) for each in judged]
    return Row(
        title,
        sum(counted for counted, _ in found),
        sum(charged for _, charged in found),
        sum(abs(counted - charged) for counted, charged in found),
    )


def _within(title: str, judged: list[Judged]) -> Row:
    return Row(
        title,
        sum(each.tokens for each in judged),
        sum(each.charged for each in judged),
        sum(max(0, each.charged - each.tokens) for each in judged),
        at_most=True,
    )


def _none(title: str, found: list[Judged] | list[Charge]) -> Row:
    return Row(title, 0, len(found), len(found))


def _uncharged(judged: Judged) -> int:
    """Return the counted tokens that the balance did not cover, which the receipt states."""
    return sum(charge.uncharged_tokens for charge in judged.charges)
