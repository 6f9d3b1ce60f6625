"""The rows about requests: what the simulated model servers counted against what was charged."""

from collections.abc import Sequence
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
    def accounted(self) -> int:
        """The tokens charged, and those that the balance did not cover, by the receipt."""
        return self.charged + sum(charge.uncharged_tokens for charge in self.charges)

    @property
    def tokens(self) -> int:
        """The tokens counted, 0 if no model server saw the request."""
        return self.counted.tokens if self.counted is not None else 0

    def __str__(self) -> str:
        counted = "not counted" if self.counted is None else f"{self.tokens} {self.counted.outcome}"
        charged = [f"{each.tokens} {each.outcome} {each.request_id}" for each in self.charges]
        return f"{self.request}: {counted}; charged {', '.join(charged) or 'nothing'}"

    @property
    def is_exact(self) -> bool:
        """Whether the charge must equal the count, not only stay within it.

        It must if promptly read the count to its end, also where that was the model server's end.
        A killed worker or the end of the balance cuts that short, and what a client left behind
        during the prompt is not final.
        """
        if len(self.charges) != 1 or self.counted is None:
            return False
        outcome = self.charges[0].outcome
        if self.counted.outcome == "crashed":
            return outcome == "upstream_error" and self.counted.completion_tokens > 0
        is_read = self.counted.completion_tokens > 0 or self.counted.outcome == "finished"
        return is_read and outcome in EXACT_OUTCOMES

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
    whole = _of(judged, "whole")
    # An answer that is not streamed is refused (502) even after a part of it was generated.
    unseen = [each for each in judged if each.counted is None]
    exact = [each for each in judged if each.is_exact]
    inexact = [each for each in judged if not each.is_exact and each.counted is not None]
    missed = [each for each in whole if len(each.charges) != 1]
    return [
        Row(
            "requests answered in full, each charged once",
            len(whole),
            len(whole) - len(missed),
            len(missed),
            details=[str(each) for each in missed],
        ),
        _exact("  their tokens", _of(exact, "whole")),
        _exact("tokens of requests that their client left", _of(exact, "left")),
        _exact("tokens of requests that broke off, count known", _of(exact, "broken", "refused")),
        _within("tokens of requests that a kill or an empty balance cut", inexact),
        Row(
            f"requests that no model server saw, charged, of {len(unseen):,}",
            0,
            sum(bool(each.charged) for each in unseen),
            sum(each.charged for each in unseen),
            details=[str(each) for each in unseen if each.charged],
        ),
        _none("requests charged twice", [each for each in judged if len(each.charges) > 1]),
        _none("charges without a request", unmatched),
        _none("requests served, not charged, no worker killed", [e for e in judged if e.is_lost]),
    ]


def _of(judged: list[Judged], *ends: str) -> list[Judged]:
    return [each for each in judged if each.request.end in ends]


def _exact(title: str, judged: list[Judged]) -> Row:
    """Compare sums, and add up the deviations of single requests."""
    deviations = {id(each): abs(each.tokens - each.accounted) for each in judged}
    return Row(
        title,
        sum(each.tokens for each in judged),
        sum(each.accounted for each in judged),
        sum(deviations.values()),
        details=[str(each) for each in judged if deviations[id(each)]],
    )


def _within(title: str, judged: list[Judged]) -> Row:
    return Row(
        title,
        sum(each.tokens for each in judged),
        sum(each.charged for each in judged),
        sum(max(0, each.charged - each.tokens) for each in judged),
        at_most=True,
        details=[str(each) for each in judged if each.charged > each.tokens],
    )


def _none(title: str, found: Sequence[Judged | Charge]) -> Row:
    return Row(title, 0, len(found), len(found), details=[str(each) for each in found])
