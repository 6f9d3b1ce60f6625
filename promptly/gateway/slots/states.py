"""Slots by what they do, and waiting requests by class, of all processes: for the metrics."""

from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from promptly.gateway.slots.exchange import FOLDER, queue_key
from promptly.gateway.slots.requests import ServiceClass
from promptly.runtime.redis_client import HotPathRedis

# Leased: given to a request by its number. Unsettled: its request was cut, and the server may still
# be busy with it. Counted: given to a request of a server that chooses the slot itself.
STATES = ("leased", "free", "unsettled", "counted")


@dataclass(frozen=True)
class States:
    """Numbers of slots by server and state, and of waiting requests by class."""

    slots: dict[tuple[str, str], int]
    waiting: dict[str, int]


class StateReader:
    """Reads the present states."""

    def __init__(self, redis: HotPathRedis) -> None:
        source = "\n".join((FOLDER / f"{part}.lua").read_text() for part in ("fields", "states"))
        self._script = redis.script(source)

    def read(self, servers: Iterable[str], queues: Iterable[str]) -> States:
        """Read the states of servers and queues, by their names; raises RedisUnavailable."""
        names = list(dict.fromkeys(servers))
        asked = {"servers": names, "queues": [queue_key(queue) for queue in queues]}
        of_servers, of_queues = self._script([], [orjson.dumps(asked)])
        slots = {
            (name, state): number
            for name, numbers in zip(names, of_servers, strict=True)
            for state, number in zip(STATES, numbers, strict=True)
        }
        waiting = dict.fromkeys(map(str, ServiceClass), 0)
        for numbers in of_queues:
            for name, number in zip(ServiceClass, numbers, strict=True):
                waiting[name] += number
        return States(slots, waiting)
