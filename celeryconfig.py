"""Celery: queues, routes, the beat schedule, and options for safe tasks and fast callers.

Every task is idempotent and may run at any time: rows decide what is done, messages are only
hints. `create_app` sets the broker's address from REDIS_URL.
"""

import logging
import sys
from pathlib import Path
from typing import Any

from billiard.process import current_process
from celery.exceptions import TimeLimitExceeded
from celery.signals import (
    after_task_publish,
    beat_init,
    heartbeat_sent,
    setup_logging,
    task_failure,
    task_postrun,
    task_prerun,
    worker_init,
    worker_process_init,
    worker_ready,
)
from kombu import Queue
from kombu.exceptions import OperationalError

from promptly.runtime import kombu_redis, logs, presence, task_metrics

# A dead worker's message is redelivered after this; task time limits stay below it.
VISIBILITY_TIMEOUT_SECONDS = 300

kombu_redis.install()

broker_connection_retry_on_startup = True
# Retry for as long as Redis is down.
broker_connection_max_retries = None
broker_transport_options = {
    "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
    "unacked_restore_throttle": 1,
    # A broker that hangs must not hold up a web request for longer than this.
    "socket_timeout": 0.5,
    "socket_connect_timeout": 0.5,
    # Callers do not wait for an unreachable broker: a sweep finds the row later.
    "max_retries": 0,
    "interval_start": 0,
    "interval_step": 0,
    "interval_max": 0,
}

task_default_queue = "default"
task_queues = (Queue("default"), Queue("mail"), Queue("metering"), Queue("payments"))
task_routes = {
    "promptly.tasks.mail.*": {"queue": "mail"},
    "promptly.tasks.metering.*": {"queue": "metering"},
    "promptly.tasks.payments.*": {"queue": "payments"},
}
imports = (
    "promptly.tasks.accounts",
    "promptly.tasks.ledger",
    "promptly.tasks.mail",
    "promptly.tasks.metering",
    "promptly.tasks.notices",
    "promptly.tasks.operator_mail",
    "promptly.tasks.payments",
    "promptly.tasks.trials",
    "promptly.tasks.usage",
)

task_serializer = "json"
accept_content = ["json"]
task_acks_late = True
task_reject_on_worker_lost = True
task_ignore_result = True
task_store_errors_even_if_ignored = False
task_time_limit = 240
task_soft_time_limit = 200
worker_prefetch_multiplier = 1
worker_concurrency = 2
worker_cancel_long_running_tasks_on_connection_loss = False
worker_send_task_events = False
timezone = "UTC"
enable_utc = True

beat_schedule = {
    "accounts-finish-deletions": {
        "task": "promptly.tasks.accounts.finish_deletions",
        "schedule": 15.0,
        "options": {"expires": 14},
    },
    "accounts-purge-sessions": {
        "task": "promptly.tasks.accounts.purge_sessions",
        "schedule": 3600.0,
        "options": {"expires": 3500},
    },
    # Runs once a night; asked often, so that no restart of beat skips a night.
    "ledger-verify": {
        "task": "promptly.tasks.ledger.verify",
        "schedule": 600.0,
        "options": {"expires": 590},
    },
    "mail-sweep": {
        "task": "promptly.tasks.mail.sweep",
        "schedule": 10.0,
        "options": {"expires": 9},
    },
    "holds-recover": {
        "task": "promptly.tasks.metering.recover_holds",
        "schedule": 10.0,
        "options": {"expires": 9},
    },
    "holds-purge": {
        "task": "promptly.tasks.metering.purge_holds",
        "schedule": 300.0,
        "options": {"expires": 290},
    },
    "payments-sweep": {
        "task": "promptly.tasks.payments.sweep",
        "schedule": 10.0,
        "options": {"expires": 9},
    },
    "payments-reconcile": {
        "task": "promptly.tasks.payments.reconcile",
        "schedule": 600.0,
        "options": {"expires": 590},
    },
    "payments-purge": {
        "task": "promptly.tasks.payments.purge",
        "schedule": 3600.0,
        "options": {"expires": 3500},
    },
    "notices-send": {
        "task": "promptly.tasks.notices.send",
        "schedule": 60.0,
        "options": {"expires": 55},
    },
    "operator-probe": {
        "task": "promptly.tasks.operator_mail.probe",
        "schedule": 30.0,
        "options": {"expires": 29},
    },
    "operator-alert": {
        "task": "promptly.tasks.operator_mail.alert",
        "schedule": 60.0,
        "options": {"expires": 55},
    },
    # Once a day; asked often, so that no restart of beat skips a day.
    "operator-digest": {
        "task": "promptly.tasks.operator_mail.send_digest",
        "schedule": 300.0,
        "options": {"expires": 290},
    },
    "trials-expire": {
        "task": "promptly.tasks.trials.expire",
        "schedule": 60.0,
        "options": {"expires": 55},
    },
    "trials-record-mailboxes": {
        "task": "promptly.tasks.trials.record_mailboxes",
        "schedule": 60.0,
        "options": {"expires": 55},
    },
    "usage-roll-up": {
        "task": "promptly.tasks.usage.roll_up",
        "schedule": 300.0,
        "options": {"expires": 290},
    },
    "usage-partitions": {
        "task": "promptly.tasks.usage.maintain_partitions",
        "schedule": 3600.0,
        "options": {"expires": 3500},
    },
}


@setup_logging.connect
def keep_logging(**_: object) -> None:
    """Keep the logging set up by `create_app`: Celery would pass warnings only.

    Celery's own two lines per task are suppressed: the tasks log the same with more detail.
    """
    logging.getLogger("celery").setLevel(logging.WARNING)
    logs.capture_uncaught()


@worker_init.connect
def keep_to_json(**_: object) -> None:
    """Drop what Celery prints when it stops (`worker: Warm shutdown`): every log line is JSON.

    Its signal handlers write to the descriptor of this stream, past `sys.stdout` and loggers.
    """
    sys.__stdout__ = None  # type: ignore[misc]


@worker_init.connect
def touch_pidfile(sender: Any, **_: object) -> None:
    """Date the worker's pidfile, if it has one, to its last heartbeat, for health checks.

    Heartbeats, every two seconds, come from the loop that takes messages, and stop while Redis is
    unreachable.
    """
    if sender.pidfile:
        pidfile = Path(sender.pidfile)
        heartbeat_sent.connect(lambda **_: pidfile.touch(), weak=False)


@worker_init.connect
def measure_tasks(sender: Any, **_: object) -> None:
    """Measure all tasks for WORKER_METRICS_PORT, if it is set; before the pool forks."""
    conf = sender.app.conf
    if not conf.metrics_port:
        return
    names = [name for name in sender.app.tasks if name.startswith("promptly.")]
    measured = task_metrics.TaskMetrics(names)
    # The pool never has more processes.
    task_metrics.share(max(sender.concurrency, *(sender.options.get("autoscale") or (0,))))

    def listen(**_: object) -> None:
        try:
            task_metrics.listen(
                conf.metrics_host, conf.metrics_port, conf.metrics_allowed, conf.metrics_key
            )
        except OSError as problem:
            logging.getLogger(__name__).error(
                "cannot listen on WORKER_METRICS_PORT: %s", problem.strerror
            )

    def end(sender: Any, task_id: str, state: str | None = None, **_: object) -> None:
        measured.end(sender.name, task_id, state)

    def fail(sender: Any, exception: object, **_: object) -> None:
        # Other failures are ends as well.
        if isinstance(exception, TimeLimitExceeded):
            measured.time_out(sender.name)

    worker_process_init.connect(
        lambda **_: task_metrics.use_column_of(getattr(current_process(), "index", None)),
        weak=False,
    )
    task_prerun.connect(lambda task_id, **_: measured.begin(task_id), weak=False)
    task_postrun.connect(end, weak=False)
    task_failure.connect(fail, weak=False)
    worker_ready.connect(listen, weak=False)


@worker_ready.connect
def reconcile_at_start(sender: Any, **_: object) -> None:
    """Reconcile payments that changed while no worker was running."""
    try:
        sender.app.send_task("promptly.tasks.payments.reconcile", retry=False)
    except (OperationalError, OSError):
        # Redis is down: beat queues the same task within ten minutes.
        logging.getLogger(__name__).warning("payments are reconciled later")


@heartbeat_sent.connect
def report_worker(sender: Any, **_: object) -> None:
    """Report the worker as alive for each queue that it consumes, with Celery's own heartbeat."""
    app = sender.eventer.app
    presence.report(app.conf.redis_url, map(presence.worker, app.amqp.queues.consume_from))


@beat_init.connect
def report_beat(sender: Any, **_: object) -> None:
    """Report beat as alive now, and whenever it has queued a task."""

    def report(**_: object) -> None:
        presence.report(sender.app.conf.redis_url, [presence.BEAT])

    report()
    after_task_publish.connect(report, weak=False)
