"""The usual loads, as plans for any server."""

from bench import bodies
from bench.client import Plan

# New streams: more at once would measure how they start.
_STARTS_PER_SECOND = 125
_AFTER_WINDOW_SECONDS = 1.5


def plain(connections: int, seconds: float, rate: float = 0.0, *, bare_proxy: bool) -> Plan:
    """Plan answers of 16 tokens, not streamed; ``rate`` per second, or as fast as they come."""
    body = bodies.plain().decode()
    return Plan(0, "", body, connections, bare_proxy=bare_proxy, seconds=seconds, rate=rate)


def burst(seconds: float, *, bare_proxy: bool) -> Plan:
    """Plan streams of 256 chunks back to back on 8 connections."""
    tokens = 256
    body = bodies.streamed(tokens, 0, bare_proxy=bare_proxy).decode()
    return Plan(
        0, "", body, 8, streamed=True, tokens=tokens, seconds=seconds, bare_proxy=bare_proxy
    )


def paced(
    streams: int, window: float, side_body: str = "", *, pace: int = 20, bare_proxy: bool
) -> Plan:
    """Plan streams of ``pace`` chunks per second that all run for more than ``window`` seconds."""
    ramp = max(1.0, streams / _STARTS_PER_SECOND)
    tokens = int((ramp + window + _AFTER_WINDOW_SECONDS) * pace)
    return Plan(
        port=0,
        key="",
        body=bodies.streamed(tokens, pace, bare_proxy=bare_proxy).decode(),
        connections=streams,
        streamed=True,
        tokens=tokens,
        bare_proxy=bare_proxy,
        seconds=window,
        once=True,
        ramp_seconds=ramp,
        side_body=side_body,
    )
