"""The client's address, behind exactly the configured number of proxies.

Also counts how many forwarded addresses page requests carry, so that `flask doctor` can compare
that with TRUSTED_PROXY_HOPS. Each process writes a count to Redis once a minute, never for /v1.
"""

import ipaddress
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

import redis
from flask import current_app, request

from promptly.runtime.redis_client import HotPathRedis, RedisUnavailable
from promptly.settings import current_settings

HOP_COUNTS_KEY = "promptly:forwarded"
RECORD_EVERY_SECONDS = 60
RECENT_SECONDS = 24 * 3600
# One above the maximum of TRUSTED_PROXY_HOPS; larger counts need no distinction.
MAX_COUNTED_HOPS = 11

# In place of addresses that cannot be parsed: their clients share one limit.
UNKNOWN = "unknown"
# With brackets, zone and port. Without a bound, a header of 16 KB would stay in the cache as it is.
LONGEST_ADDRESS = 80
FORWARDING_HEADERS = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_VIA")


def forwarded_address(peer: str, forwarded_for: str | None, hops: int) -> str | None:
    """Return the client's address after `hops` trusted proxies; None if too few came.

    Each trusted proxy appends the address it saw, so the client is the entry `hops` from the
    right; everything before it was written by the client and proves nothing.
    """
    if hops == 0:
        return peer
    addresses = forwarded_addresses(forwarded_for)
    return plain_address(addresses[-hops][:LONGEST_ADDRESS]) if len(addresses) >= hops else None


@lru_cache(maxsize=4096)
def plain_address(text: str) -> str:
    """Return a forwarded address without brackets, port and zone; UNKNOWN if it is not one.

    Each connection has another port, so with it every one would have limits of its own.
    """
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return UNKNOWN


def forwarded_addresses(forwarded_for: str | None) -> list[str]:
    """Split an X-Forwarded-For header into its addresses."""
    return [item.strip() for item in (forwarded_for or "").split(",") if item.strip()]


def passed_a_proxy() -> bool:
    """Return whether the current request has a header that a proxy adds."""
    return any(name in request.environ for name in FORWARDING_HEADERS)


def network_of(address: str) -> str:
    """Return an IPv4 address, or the /64 of an IPv6 one: one customer usually owns a whole /64."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return UNKNOWN
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def address_of(environ: Mapping[str, Any], hops: int) -> str:
    """Return the client's address for rate limits; the peer's if the proxies forwarded too few."""
    peer = environ.get("REMOTE_ADDR") or "local"
    return forwarded_address(peer, environ.get("HTTP_X_FORWARDED_FOR"), hops) or peer


def client_network() -> str:
    """Return the network of Flask's current client."""
    return network_of(client_address())


def client_address() -> str:
    """Return the address of Flask's current client."""
    return address_of(request.environ, current_settings().trusted_proxy_hops)


def record_hop_count() -> None:
    """Record how many forwarded addresses the current request carries."""
    addresses = forwarded_addresses(request.environ.get("HTTP_X_FORWARDED_FOR"))
    count = min(len(addresses), MAX_COUNTED_HOPS)
    due: dict[int, float] = current_app.extensions.setdefault("hop_counts_due", {})
    now = time.monotonic()
    if now < due.get(count, 0.0):
        return
    due[count] = now + RECORD_EVERY_SECONDS
    hot_path: HotPathRedis = current_app.extensions["hot_path_redis"]
    with suppress(RedisUnavailable):
        hot_path.command("HSET", HOP_COUNTS_KEY, count, int(time.time()))


def recent_hop_counts(client: redis.Redis) -> set[int]:
    """Return the distinct counts of forwarded addresses seen in the last RECENT_SECONDS."""
    found: dict[bytes, bytes] = client.hgetall(HOP_COUNTS_KEY)  # type: ignore[assignment]
    since = time.time() - RECENT_SECONDS
    return {int(count) for count, moment in found.items() if int(moment) >= since}
