"""Positions of waiting requests, and estimates of how long they wait.

A request's position is one more than the number of requests that would get a slot before it if
nothing arrived or left from now on, and if every request cost as much as those that ended lately.
It is an estimate: others arrive, leave, cost more or less, or find their cache in a free slot.
The wait is that position times the measured time of a request, divided by the number of slots.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from promptly.gateway.slots.exchange import FOLDER, Terms, queue_key
from promptly.gateway.slots.requests import Place, ServiceClass
from promptly.runtime.redis_client import HotPathRedis


@dataclass(frozen=True, slots=True)
class Waiting:
    """A waiting request as Redis knows it."""

    id: str
    service_class: str
    lane: str
    account: int


# Instead of a rank: the request waits for the slot that has its prompt cached, for no other.
_FOR_ONE_SLOT = -2

# An account's request: its class, its account and its rank among those of the account.
_Turn = tuple[str, str, int]


class Places:
    """Finds the places of requests in Redis."""

    def __init__(self, redis: HotPathRedis, terms: Terms) -> None:
        source = "\n".join((FOLDER / f"{part}.lua").read_text() for part in ("fields", "places"))
        self._script = redis.script(source)
        self._trial_weight = terms.trial_weight

    def find(
        self, queue: str, requests: Sequence[Waiting], servers: Iterable[str]
    ) -> list[Place | None]:
        """Return the place of each request, None for those that do not wait in this queue.

        `servers` are the names of the queue's servers. Raises RedisUnavailable.
        """
        asked = {
            "requests": [(item.id, item.lane, str(item.account)) for item in requests],
            "servers": list(servers),
        }
        ranks, numbers, lanes, several, measured = self._script(
            [queue_key(queue)], [orjson.dumps(asked)]
        )
        waiting, cost, *served = numbers
        turns = [
            (item.service_class, str(item.account), rank)
            for item, rank in zip(requests, ranks, strict=True)
        ]
        order = _order(lanes, several, max(cost, 1), served, self._trial_weight)
        positions = _positions(order, {turn for turn in turns if turn[2] >= 0})
        pace = _Pace.of(measured)
        found: list[Place | None] = []
        for turn in turns:
            # Of an account beyond those that the script returns: near the end.
            position = positions.get(turn, waiting)
            if turn[2] == _FOR_ONE_SLOT:
                found.append(Place(1, pace.seconds(pace.slots)))
            else:
                found.append(None if turn[2] < 0 else Place(position, pace.seconds(position)))
        return found


@dataclass(frozen=True, slots=True)
class _Pace:
    """How many slots there are, and how often one becomes free; None while nothing was measured."""

    slots: int
    turn_ms: float | None

    @classmethod
    def of(cls, measured: Sequence[tuple[int, int]]) -> "_Pace":
        """Compute it from the servers' slots and the times of their requests.

        Servers without a measured time are taken to be as fast as the others.
        """
        slots = sum(count for count, _ in measured)
        known = [(count, time_ms) for count, time_ms in measured if count > 0 and time_ms > 0]
        if not known:
            return cls(slots, None)
        per_ms = sum(count / time_ms for count, time_ms in known)
        return cls(slots, sum(count for count, _ in known) / slots / per_ms)

    def seconds(self, turns: int) -> int | None:
        return None if self.turn_ms is None else math.ceil(turns * self.turn_ms / 1000)


def _positions(order: Iterator[_Turn], wanted: set[_Turn]) -> dict[_Turn, int]:
    found: dict[_Turn, int] = {}
    for position, turn in enumerate(order, 1):
        if len(found) == len(wanted):
            break
        if turn in wanted:
            found[turn] = position
    return found


def _order(
    lanes: Iterable[tuple[bytes, list[bytes]]],
    several: Iterable[tuple[bytes, list[bytes]]],
    cost: int,
    served: Sequence[int],
    trial_weight: int,
) -> Iterator[_Turn]:
    """Yield the requests in the order in which the exchange's script would grant them slots."""
    numbers = {
        (kind.decode(), account): int(float(number))
        for kind, flat in several
        for account, number in _pairs(flat)
    }
    turns: dict[str, list[tuple[float, bool, str, int]]] = {kind: [] for kind in ServiceClass}
    seen: Counter[tuple[str, str]] = Counter()
    for packed_kind, flat in lanes:
        kind = packed_kind.decode()
        for member, score in _pairs(flat):
            account = member.partition("|")[2]
            # In another lane of the class it has the same counter, and its other requests.
            if seen[kind, account]:
                continue
            seen[kind, account] += 1
            counter = float(score)
            turns[kind] += [
                (counter + rank * cost, rank > 0, member, rank)
                for rank in range(numbers.get((kind, account), 1))
            ]
    paying, trial, batch = (
        [(kind.value, member.partition("|")[2], rank) for _, _, member, rank in sorted(turns[kind])]
        for kind in (ServiceClass.PAYING, ServiceClass.TRIAL, ServiceClass.BATCH)
    )
    yield from _by_class(paying, trial, cost, served, trial_weight)
    # All others go first; the one slot in 30 s that batch requests get is not worth counting.
    yield from batch


def _by_class(
    paying: list[_Turn], trial: list[_Turn], cost: int, served: Sequence[int], trial_weight: int
) -> Iterator[_Turn]:
    of_paying, of_trial = served
    next_paying = next_trial = 0
    while next_paying < len(paying) and next_trial < len(trial):
        if of_trial < of_paying:
            yield trial[next_trial]
            next_trial += 1
            of_trial += cost * trial_weight
        else:
            yield paying[next_paying]
            next_paying += 1
            of_paying += cost
    yield from paying[next_paying:]
    yield from trial[next_trial:]


def _pairs(flat: list[Any]) -> Iterator[tuple[str, str]]:
    decoded = [item.decode() for item in flat]
    return zip(decoded[::2], decoded[1::2], strict=True)
