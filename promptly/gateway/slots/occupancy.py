"""Slots taken and requests waiting, of all processes together."""

from collections.abc import Iterable
from dataclasses import dataclass

from promptly.gateway.slots.exchange import queue_key
from promptly.runtime.redis_client import HotPathRedis


@dataclass(frozen=True)
class Occupancy:
    """Number of slots taken, by the upstream's name, and of requests that wait for a slot."""

    taken: dict[str, int]
    waiting: int


def read_occupancy(
    redis: HotPathRedis, upstreams: Iterable[str], queues: Iterable[str]
) -> Occupancy:
    """Read the present state; raises RedisUnavailable."""
    seconds, microseconds = redis.command("TIME")
    now = int(seconds) * 1000 + int(microseconds) // 1000
    return Occupancy(
        taken={
            name: int(redis.command("ZCOUNT", f"promptly:slots:{name}", f"({now}", "+inf"))
            for name in upstreams
        },
        waiting=sum(int(redis.command("HLEN", f"{queue_key(queue)}:requests")) for queue in queues),
    )
