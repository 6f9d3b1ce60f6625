"""The model servers as an operator sees them: answering or not, drained or not, how busy."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from promptly.clients.llama import LlamaError
from promptly.gateway import Gateway
from promptly.gateway.shared_calls import run_all
from promptly.gateway.slots.report import ServerState, SlotReport
from promptly.gateway.upstream import SLOTS_PATH, Upstream
from promptly.models import DrainedUpstream
from promptly.models.states import UpstreamState
from promptly.runtime.redis_client import RedisUnavailable


@dataclass(frozen=True)
class ModelServer:
    """A model server as last probed; `slots` and `running` are None while Redis is away."""

    upstream: Upstream
    drain: DrainedUpstream | None
    slots: ServerState | None

    @property
    def running(self) -> int | None:
        """The number of requests that have a place there."""
        return None if self.slots is None else self.slots.running

    @property
    def state(self) -> UpstreamState:
        """Its state; a server that may still be running requests is not drained yet."""
        if self.drain is not None:
            return UpstreamState.DRAINED if self.running == 0 else UpstreamState.DRAINING
        return UpstreamState.READY if self.upstream.ready else UpstreamState.DOWN

    @property
    def probe(self) -> str:
        """The result of the last probe, in a few words."""
        if not self.upstream.is_known:
            return "not probed yet"
        return "ok" if self.upstream.ready else self.upstream.problem or "a request failed"


def probe_all(gateway: Gateway) -> None:
    """Probe all model servers, at the same time."""
    pool = gateway.pool
    run_all([partial(pool.probe, server) for server in pool.servers], "probe-upstream")


def read_slots(gateway: Gateway) -> SlotReport | None:
    """Return the slots and the queue, None if Redis is away."""
    try:
        return gateway.slots.report()
    except RedisUnavailable:
        return None


def model_servers(
    gateway: Gateway, drained: Mapping[str, DrainedUpstream], report: SlotReport | None
) -> list[ModelServer]:
    """Return the servers in the order of the settings, each once, a router as its models."""
    # The same server may be configured for text and for embeddings.
    by_name: dict[str, Upstream] = {}
    for upstream in gateway.pool.upstreams:
        if not upstream.is_router:
            by_name.setdefault(upstream.name, upstream)
    return [
        ModelServer(
            upstream, drained.get(upstream.url), None if report is None else report.servers[name]
        )
        for name, upstream in by_name.items()
    ]


def count_running(gateway: Gateway, url: str) -> int | None:
    """Return how many requests a server runs, None if neither Redis nor the server says it.

    The server also knows requests whose client has left and those that Redis has lost.
    """
    upstreams = {up.name: up for up in gateway.pool.upstreams if up.url == url and not up.is_router}
    report = read_slots(gateway)
    counts = [] if report is None else [sum(report.servers[name].running for name in upstreams)]
    for upstream in upstreams.values():
        try:
            status, slots = upstream.client.call("GET", SLOTS_PATH, timeout_seconds=3)
            if status == 200:
                counts.append(sum(bool(slot["is_processing"]) for slot in slots))
        except (LlamaError, KeyError, TypeError):
            # It is down, or does not show its slots.
            continue
    return max(counts, default=None)
