"""How many addresses requests for pages carry, for `flask doctor` to compare with the setting.

Noted in Redis once a minute for each process and number, never below /v1.
"""

import time
from contextlib import suppress

import redis
from flask import current_app, request

from promptly.redis_client import RedisAway, RedisLane
from promptly.remote import forwarded_addresses

SEEN = "promptly:forwarded"
EVERY_SECONDS = 60
# More than any setting allows, and then it does not matter how many.
MOST = 11


def note() -> None:
    """Note how many forwarded addresses this request carries."""
    count = min(len(forwarded_addresses(request.environ.get("HTTP_X_FORWARDED_FOR"))), MOST)
    noted: dict[int, float] = current_app.extensions.setdefault("forwarding_noted", {})
    now = time.monotonic()
    if now < noted.get(count, 0.0):
        return
    noted[count] = now + EVERY_SECONDS
    lane: RedisLane = current_app.extensions["redis_lane"]
    with suppress(RedisAway):
        lane.command("HSET", SEEN, count, int(time.time()))


def seen(client: redis.Redis, within_seconds: int = 24 * 3600) -> set[int]:
    """The numbers of forwarded addresses that requests carried lately."""
    found: dict[bytes, bytes] = client.hgetall(SEEN)  # type: ignore[assignment]
    since = time.time() - within_seconds
    return {int(count) for count, moment in found.items() if int(moment) >= since}
