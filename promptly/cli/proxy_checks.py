"""Compare TRUSTED_PROXY_HOPS with the forwarded addresses that recent requests carried."""

from collections.abc import Iterator

import redis

from promptly import proxies
from promptly.runtime.redis_client import TIMEOUTS
from promptly.settings import Settings


def findings(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield pairs of level and message."""
    hops = settings.trusted_proxy_hops
    try:
        with redis.Redis.from_url(settings.redis_connection_url, **TIMEOUTS) as client:
            seen = proxies.recent_hop_counts(client)
    except (redis.RedisError, OSError):
        # Another check reports it.
        return
    fewer, more = {n for n in seen if n < hops}, {n for n in seen if n > hops}
    if fewer:
        yield (
            "warning",
            f"requests carried {_joined(fewer)} forwarded addresses, fewer than TRUSTED_PROXY_HOPS="
            f"{hops}: they bypassed your proxies, or you have fewer; the panel refuses them",
        )
    if more and (hops == 0 or hops not in seen):
        yield (
            "warning",
            f"requests carried {_joined(more)} forwarded addresses, more than TRUSTED_PROXY_HOPS="
            f"{hops}: set it to the number of your proxies, unless clients forged them",
        )
    if hops in seen and not fewer and not (more and hops == 0):
        yield (
            "ok",
            f"requests carry {hops} or more forwarded addresses, as in TRUSTED_PROXY_HOPS",
        )


def _joined(numbers: set[int]) -> str:
    return " or ".join(str(number) for number in sorted(numbers))
