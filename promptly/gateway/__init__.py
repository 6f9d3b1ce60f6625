"""The hot path: from a client's bytes to upstream and back, metered.

The modules, in the order in which a request meets them:

    limits            requests per minute, per address and per key
    imported_keys     the first use of a key that comes from another gateway
    json_body         strict decoding of the body; errors that name the field
    dialects          the APIs that clients speak: requests checked, answers formatted
    chat_request      a checked chat in the form that upstream gets
    generation        interfaces that the modules below need from a checked request
    hold_placement    holds the cost before upstream sees the request
    upstreams         the pool of llama-servers and their readiness
    fatal_bodies      refuses bodies that model servers died of
    metered_request   from the hold to the settlement; base class of the next two
    relay             generated text, streamed and counted
    embedding         vectors, computed in batches
    in_flight         a running request as other threads see it
    disconnects       stops the request when its client disconnects
    slot_scheduler    grants slots fairly across processes, by `slots.lua`
    sse               framing of server-sent events
    chunks, counts    upstream's chunks, reduced to the client's; their running counts
    upstream_errors   upstream's refusals as our own errors
    running_hold      shrinks and grows the hold with its request
    hold_refresher    the thread that adjusts and checkpoints all holds
    time_limits       when a request has taken too long
    settling          charges the request; retries while PostgreSQL is away

`Gateway` is the state that they share.
"""

import logging
import threading
import time
from typing import cast

from flask import Flask, current_app

from promptly.gateway.fatal_bodies import FatalBodies
from promptly.gateway.hold_refresher import HoldRefresher
from promptly.gateway.imported_keys import ImportedKeys
from promptly.gateway.limits import RequestLimits
from promptly.gateway.settling import Settler
from promptly.gateway.slot_scheduler import SlotScheduler
from promptly.gateway.upstreams import UpstreamPool
from promptly.models.states import Outcome
from promptly.runtime.database import HotPathDatabase
from promptly.runtime.redis_client import HotPathRedis
from promptly.settings import Settings

logger = logging.getLogger(__name__)

# Upper bound for ending and settling all streams on shutdown.
END_SECONDS = 8.0


class Gateway:
    """State shared by all requests of one process."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        self.settings = settings
        self.database: HotPathDatabase = app.extensions["hot_path_database"]
        redis: HotPathRedis = app.extensions["hot_path_redis"]
        self.pepper = settings.key_pepper.reveal()
        self.top_up_url = f"{settings.base_url}/dashboard"
        self.limits = RequestLimits(
            redis, settings.inference_ip_rate_limit, settings.inference_user_rate_limit
        )
        self.imported_keys = ImportedKeys(self.database, redis)
        self.pool = UpstreamPool(settings)
        self.fatal_bodies = FatalBodies(redis, self.pepper)
        self.slots = SlotScheduler(
            redis, self.pool, self.fatal_bodies, settings.max_queued_requests
        )
        self.hold_refresher = HoldRefresher(settings, self.database)
        self.settler = Settler(app, self.database)
        # Set while running requests finish before the process ends.
        self.draining = False

    def end_requests(self) -> None:
        """End running requests, and those that still arrive, so that they settle.

        Returns after END_SECONDS.
        """
        if len(self.hold_refresher):
            logger.info("ending streams for shutdown", extra={"requests": len(self.hold_refresher)})
        deadline = time.monotonic() + END_SECONDS
        pause = threading.Event()
        while time.monotonic() < deadline:
            self.hold_refresher.stop_all(Outcome.SHUTDOWN)
            pause.wait(0.5)


def bind_gateway(app: Flask, settings: Settings) -> None:
    """Create the application's gateway, without connecting or starting anything yet."""
    app.extensions["gateway"] = Gateway(app, settings)


def current_gateway() -> Gateway:
    """Return the current application's gateway."""
    return cast(Gateway, current_app.extensions["gateway"])
