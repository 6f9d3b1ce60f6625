"""The hot path: from a client's bytes to upstream and back, metered.

The modules, in the order in which a request meets them:

    key_hashes        hashes of keys under the current pepper and older ones
    account_rates     rates of accounts that have their own
    limits            requests per minute, per address and key, or per account
    imported_keys     the first use of a key that comes from another gateway
    body_budget       bytes of bodies in memory, per account, address and process
    content_encoding  compressed bodies, decoded within a bound
    json_bounds       numbers of values and levels, checked in a body's bytes
    json_body         strict decoding of the body; errors that name the field
    body_decoder      decodes bodies, large ones off the event loop
    turns             bounds on decoding and counting at the same time
    dialects          the APIs that clients speak: requests checked, answers formatted
    chat_request      a checked chat in the form that upstream gets
    chat_texts        the texts of a checked chat
    prefix_chain      names for what a prompt begins with, by which its cache is found
    session_headers   a client's name for its conversation
    generation        interfaces that the modules below need from a checked request
    price_list        the prices in force
    known_callers     callers looked up a short while ago
    hold_placement    holds the cost before upstream sees the request
    hold_at_once      the same in one statement with the key's look-up, in the usual case
    upstream          one model on one model server
    upstreams         the pool of model servers and their readiness
    probes            ask a model server for its properties
    probe_pauses      how long a server is left alone between two probes
    drained_servers   which servers an operator has taken out of service
    remembered_models  the models of each server, when it last answered
    shared_calls      calls that run once for all that wait for them
    refreshed         values from PostgreSQL, read again off requests' path
    routers           model servers that hold several models
    model_names       which model a request gets
    model_loading     lets a router load a model, and waits for it
    context_lengths   which servers of a model have room for a request
    fatal_bodies      refuses bodies that model servers died of
    prompt_counting   counts prompts at upstream, within bounds
    measurements      adds an ended request to the metrics
    metered_request   from the hold to the settlement; base class of the next two
    slot_waiting      waits for a model and a slot, with comments for the client
    relay             generated text, streamed and counted
    embedding         vectors, computed in batches
    in_flight         a running request as other threads see it
    disconnects       stops the request when its client disconnects
    slots             grants slots fairly across processes
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

from promptly.gateway.account_rates import AccountRates
from promptly.gateway.body_budget import BodyBudget
from promptly.gateway.body_decoder import BodyDecoder
from promptly.gateway.fatal_bodies import FatalBodies
from promptly.gateway.hold_refresher import HoldRefresher
from promptly.gateway.imported_keys import ImportedKeys
from promptly.gateway.key_hashes import KeyHashes
from promptly.gateway.known_callers import KnownCallers
from promptly.gateway.limits import RequestLimits
from promptly.gateway.model_loading import ModelLoading
from promptly.gateway.model_names import ModelNames
from promptly.gateway.prefix_chain import PrefixChains
from promptly.gateway.price_list import PriceList
from promptly.gateway.settling import Settler
from promptly.gateway.slots.exchange import Terms
from promptly.gateway.slots.scheduler import SlotScheduler
from promptly.gateway.turns import CountTurns
from promptly.gateway.upstreams import UpstreamPool
from promptly.models.states import Outcome
from promptly.pseudonyms import Pseudonyms
from promptly.runtime.cors import Cors
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
        self.pseudonyms: Pseudonyms = app.extensions["pseudonyms"]
        self.cors = Cors(settings.cors_origins)
        self.top_up_url = f"{settings.base_url}/dashboard"
        self.limits = RequestLimits(
            redis, settings.inference_ip_rate_limit, settings.inference_user_rate_limit
        )
        self.key_hashes = KeyHashes(self.database, settings)
        self.account_rates = AccountRates(self.database)
        self.imported_keys = ImportedKeys(self.database, redis, self.key_hashes)
        self.known_callers = KnownCallers()
        self.body_budget = BodyBudget(settings.max_body_bytes)
        self.body_decoder = BodyDecoder(settings.max_body_bytes, settings.max_json_values)
        self.count_turns = CountTurns()
        shared = settings.slot_isolation == "shared"
        self.prefix_chains = PrefixChains(settings.key_pepper, shared=shared)
        self.price_list = PriceList(app, self.database, settings.prices)
        self.pool = UpstreamPool(settings, self.database)
        self.model_names = ModelNames(self.pool, settings.model_aliases, settings.default_model)
        self.model_loading = ModelLoading(
            self.pool, settings.queue_timeout_seconds if settings.router_autoload else None
        )
        self.fatal_bodies = FatalBodies(redis, settings.key_pepper)
        terms = Terms(settings.max_queued_requests, settings.trial_weight, shared)
        self.slots = SlotScheduler(redis, self.pool, self.fatal_bodies, terms)
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
