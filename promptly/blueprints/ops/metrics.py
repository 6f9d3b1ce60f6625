"""GET /metrics, for Prometheus: from the addresses of ADMIN_ALLOWED_CIDRS, or with METRICS_KEY.

Whichever worker answers: requests are counted over all workers of its gateway, queue and slots are
those of all gateways, money's health is PostgreSQL's. A dependency that is away leaves its figures
out; the scrape itself succeeds.
"""

import logging
from collections.abc import Iterable, Iterator

import redis
from flask import Response, current_app, request
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from promptly.blueprints.admin import access
from promptly.gateway import Gateway, current_gateway
from promptly.runtime import presence, request_metrics
from promptly.runtime.celery_app import celery
from promptly.runtime.metrics_key import has_key
from promptly.runtime.redis_client import HotPathRedis, RedisUnavailable
from promptly.services.money_health import MoneyHealth
from promptly.settings import Settings, current_settings

logger = logging.getLogger(__name__)


def metrics() -> Response:
    """Return all metrics in the format that the client accepts."""
    if not has_key(request.environ, current_settings().metrics_key):
        access.allowed_address()
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(_Scrape()), content_type=content_type)


class _Scrape:
    def collect(self) -> Iterator[Metric]:
        gateway = current_gateway()
        health: MoneyHealth = current_app.extensions["money_health"]
        yield from request_metrics.families.collect()
        yield from _upstreams(gateway)
        yield from _in_redis(gateway, current_app.extensions["hot_path_redis"])
        yield from health.collect()
        yield from _thresholds(current_settings())


def _thresholds(settings: Settings) -> Iterator[Metric]:
    """Return the settings that alerts compare other figures with."""
    if settings.database_size_warn_bytes:
        text = "Size of the database from which there is an alert; missing if there is none."
        size = settings.database_size_warn_bytes
        yield GaugeMetricFamily("promptly_database_size_warn_bytes", text, size)


def _upstreams(gateway: Gateway) -> Iterator[Metric]:
    """Return the model servers as this process last saw them."""
    gateway.pool.seen()
    gateway.pool.mark_drained()
    # The same server may be configured for text and for embeddings.
    ready: dict[str, bool] = {}
    slots: dict[str, int] = {}
    drained = {upstream.name: upstream.drained for upstream in gateway.pool.upstreams}
    for upstream in gateway.pool.upstreams:
        ready[upstream.name] = ready.get(upstream.name, False) or upstream.ready
        slots[upstream.name] = max(slots.get(upstream.name, 0), upstream.slots)
    yield _by_upstream("promptly_upstream_up", "Whether a model server is ready.", ready)
    text = "Whether an operator has taken a model server out of service."
    yield _by_upstream("promptly_upstream_drained", text, drained)
    yield _by_upstream("promptly_slots", "Slots of a model server, when last seen ready.", slots)


def _in_redis(gateway: Gateway, hot_path: HotPathRedis) -> list[Metric]:
    found: list[Metric] = []
    try:
        found += _queue(gateway)
        found += _background(hot_path)
    except (RedisUnavailable, redis.RedisError) as problem:
        logger.info("Redis's figures are incomplete", extra={"reason": type(problem).__name__})
        up = 0
    else:
        up = 1
    text = "Whether Redis answered this scrape."
    return [*found, GaugeMetricFamily("promptly_redis_up", text, up)]


def _queue(gateway: Gateway) -> Iterator[Metric]:
    occupancy = gateway.slots.occupancy()
    states = gateway.slots.states()
    text = "Requests that wait for a slot, of all gateways."
    yield _labelled("promptly_queue_length", text, "class", states.waiting.items())
    text = "Slots of a model server that are taken, by requests of all gateways."
    yield _by_upstream("promptly_slots_taken", text, occupancy.taken)
    text = (
        "Slots of a model server: leased to a request, free, unsettled while its cut request may "
        "still run there, or counted where the server chooses the slot."
    )
    family = GaugeMetricFamily("promptly_slots_by_state", text, labels=["upstream", "state"])
    for labels, number in states.slots.items():
        family.add_metric(labels, number)
    yield family


def _background(hot_path: HotPathRedis) -> Iterator[Metric]:
    """Return signs of life of Celery's worker and beat, and what waits for the worker."""
    queues = [queue.name for queue in celery.conf.task_queues]
    ages = presence.ages(hot_path, [presence.BEAT, *map(presence.worker, queues)])
    unseen = f"+Inf if not within {presence.LATELY_SECONDS} s"
    text = f"Time since Celery's beat was seen; {unseen}."
    yield GaugeMetricFamily("promptly_beat_seen_age_seconds", text, _seconds(ages[presence.BEAT]))
    text = f"Time since a worker was seen that consumes a queue; {unseen}."
    seen = [(name, _seconds(ages[presence.worker(name)])) for name in queues]
    yield _labelled("promptly_worker_seen_age_seconds", text, "queue", seen)
    waiting = [(name, float(hot_path.command("LLEN", name))) for name in queues]
    text = "Tasks that wait in a queue for a worker."
    yield _labelled("promptly_celery_queue_length", text, "queue", waiting)


def _seconds(age: int | None) -> float:
    return float("inf") if age is None else age


def _by_upstream(name: str, text: str, values: dict[str, int] | dict[str, bool]) -> Metric:
    shown = [(upstream, float(value)) for upstream, value in values.items()]
    return _labelled(name, text, "upstream", shown)


def _labelled(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values:
        family.add_metric([value], number)
    return family
