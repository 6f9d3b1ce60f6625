"""Health checks and metrics, for load balancers and operators.

`pools` tries each connection pool, `metrics` answers Prometheus.
"""

import logging

from flask import Blueprint, Flask, Response, current_app, jsonify
from flask.blueprints import BlueprintSetupState

from promptly.blueprints.ops.metrics import metrics
from promptly.blueprints.ops.pools import AWAY, OK, PoolChecks
from promptly.gateway import current_gateway
from promptly.gateway.chat_request import ChatRequest
from promptly.runtime import presence
from promptly.runtime.celery_app import celery
from promptly.services.money_health import MoneyHealth

logger = logging.getLogger(__name__)

DRAINED = "drained (flask upstreams resume)"


def health() -> Response:
    """Report that the process is alive."""
    return jsonify(status="ok")


def ready() -> Response:
    """Return 200 if every dependency answers and the process is not shutting down, else 503.

    The body has one line for each dependency, PostgreSQL's for each connection pool, and for the
    Celery worker and beat, which requests do not need: those lines do not change the status.
    """
    pools: PoolChecks = current_app.extensions["pool_checks"]
    checks = dict(pools.states())
    checks |= {"redis": OK if _redis() else AWAY, "upstream": _upstream()}
    lines = "".join(f"{name}: {state}\n" for name, state in checks.items())
    lines += _background()
    gateway = current_gateway()
    if gateway.draining:
        lines += "process: shutting down\n"
    status = 200 if set(checks.values()) == {OK} and not gateway.draining else 503
    return Response(lines, status=status, mimetype="text/plain")


def _redis() -> bool:
    try:
        return bool(current_app.extensions["hot_path_redis"].client.ping())
    except Exception as problem:
        logger.info("Redis not ready", extra={"reason": type(problem).__name__})
        return False


def _upstream() -> str:
    # A server that only serves embeddings is not enough.
    pool = current_gateway().pool
    if pool.ready(ChatRequest.path):
        return OK
    return DRAINED if pool.all_drained(ChatRequest.path) else AWAY


def _background() -> str:
    """Return the lines of the worker, which has to consume every queue, and of beat."""
    workers = {presence.worker(queue.name): queue.name for queue in celery.conf.task_queues}
    redis = current_app.extensions["hot_path_redis"]
    try:
        ages = presence.ages(redis, [*workers, presence.BEAT])
    except Exception as problem:
        logger.info("worker and beat not known", extra={"reason": type(problem).__name__})
        return "worker: unknown\nbeat: unknown\n"
    beat = _seen(ages.pop(presence.BEAT))
    silent = [workers[name] for name, age in ages.items() if age is None]
    if silent:
        worker = f"not seen lately (queues: {', '.join(silent)})"
    else:
        worker = _seen(max(age or 0 for age in ages.values()))
    return f"worker: {worker}\nbeat: {beat}\n"


def _seen(age: int | None) -> str:
    return "not seen lately" if age is None else f"ok (seen {age} s ago)"


blueprint = Blueprint("ops", __name__)
blueprint.add_url_rule("/health", "health", health)
blueprint.add_url_rule("/health/ready", "ready", ready)
blueprint.add_url_rule("/metrics", "metrics", metrics)


@blueprint.record_once
def configure(state: BlueprintSetupState) -> None:
    """Create the checks and figures that parallel requests share."""
    app: Flask = state.app  # type: ignore[assignment]
    app.extensions["pool_checks"] = PoolChecks()
    app.extensions["money_health"] = MoneyHealth(app.extensions["settings"])
