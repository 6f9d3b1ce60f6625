"""A request waits: while a router loads its model, then for a slot of a model server.

Both yield comments for the client, without which clients and proxies would give up.
"""

import threading
import time
from collections.abc import Generator

from promptly.errors import QueueFull
from promptly.gateway import Gateway, model_loading, sse
from promptly.gateway.in_flight import InFlightRequest
from promptly.gateway.slots.requests import Lease, SlotRequest
from promptly.runtime.request_metrics import queue_waits


def for_model(
    gateway: Gateway, in_flight: InFlightRequest, path: str, model: str
) -> Generator[bytes, None, None]:
    """Wait while a router loads the model, if it is not loaded and may be."""
    spoke_at = time.monotonic()
    for _ in gateway.model_loading.waits(path, model):
        in_flight.wait_for(threading.Event(), model_loading.LOOK_SECONDS)
        now = time.monotonic()
        if now - spoke_at >= gateway.settings.keepalive_comment_seconds:
            spoke_at = now
            yield sse.KEEPALIVE


def for_slot(
    gateway: Gateway,
    in_flight: InFlightRequest,
    slot_request: SlotRequest,
    avoided: frozenset[str],
) -> Generator[bytes, None, Lease]:
    """Wait until the slot is granted.

    Raises QueueFull if the request was displaced or waited too long, and UpstreamUnavailable or
    UnsupportedEndpoint once no upstream is left that is not `avoided`.
    """
    pool = gateway.pool
    path, model = slot_request.path, slot_request.model
    started_at = time.monotonic()
    limit_seconds = gateway.settings.queue_timeout_seconds
    wait_seconds = gateway.settings.keepalive_comment_seconds
    try:
        while True:
            in_flight.wait_for(slot_request.changed, wait_seconds)
            lease = slot_request.granted()
            if lease is not None:
                slot_request.forget_wait()
                return lease
            if all(other.name in avoided for other in pool.ready(path, model)):
                raise pool.refusal(path, model)
            if time.monotonic() > started_at + limit_seconds:
                raise QueueFull(
                    f"The request waited for the model for {limit_seconds} s without getting a"
                    " slot."
                )
            place = slot_request.place
            yield sse.KEEPALIVE if place is None else sse.queue_comment(*place)
    finally:
        queue_waits[slot_request.service_class].observe(time.monotonic() - started_at)
