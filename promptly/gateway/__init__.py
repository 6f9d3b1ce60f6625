"""The hot path: from a client's bytes to upstream and back, metered.

`dialects` check what the client sent, `holding` sets its cost aside, `admission` finds it a slot,
`relay` and `embedding` carry the answer and count it, `hold_refresher` and `settling` keep its
books. `Gateway` holds what they share.
"""

import logging
import threading
import time
from typing import cast

from flask import Flask, current_app

from promptly.gateway.hold_refresher import HoldRefresher
from promptly.gateway.limits import RequestLimits
from promptly.gateway.settling import Settler
from promptly.gateway.slot_scheduler import SlotScheduler
from promptly.gateway.upstreams import UpstreamPool
from promptly.runtime.database import HotPathDatabase
from promptly.runtime.redis_client import HotPathRedis
from promptly.settings import Settings

logger = logging.getLogger(__name__)

# What ending all streams of a process and settling them may take.
END_SECONDS = 8.0


class Gateway:
    """What the requests of one process share."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        self.settings = settings
        self.database: HotPathDatabase = app.extensions["hot_path_database"]
        redis: HotPathRedis = app.extensions["hot_path_redis"]
        self.pepper = settings.key_pepper.reveal()
        self.top_up_url = f"{settings.base_url}/dashboard"
        self.limits = RequestLimits(
            redis, settings.inference_ip_rate_limit, settings.inference_user_rate_limit
        )
        self.pool = UpstreamPool(settings)
        self.slots = SlotScheduler(redis, self.pool, settings.max_queued_requests)
        self.hold_refresher = HoldRefresher(settings, self.database)
        self.settler = Settler(app, self.database)
        self.draining = False

    def drain(self, seconds: float) -> None:
        """Let running requests finish for so long, then end and settle them."""
        self.draining = True
        deadline = time.monotonic() + seconds
        pause = threading.Event()
        while len(self.hold_refresher) and time.monotonic() < deadline:
            pause.wait(0.1)
        if len(self.hold_refresher):
            logger.info("ending streams for shutdown", extra={"requests": len(self.hold_refresher)})
        while len(self.hold_refresher) and time.monotonic() < deadline + END_SECONDS:
            self.hold_refresher.stop_all("shutdown")
            pause.wait(0.5)


def bind_gateway(app: Flask, settings: Settings) -> None:
    """Give the application its gateway; nothing is connected or started yet."""
    app.extensions["gateway"] = Gateway(app, settings)


def current_gateway() -> Gateway:
    """The gateway of the running application."""
    return cast(Gateway, current_app.extensions["gateway"])
