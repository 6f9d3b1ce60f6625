"""Tasks that mail the operator; nothing happens without OPERATOR_EMAIL and a mail server."""

import logging
from concurrent.futures import ThreadPoolExecutor

from celery import shared_task

from promptly.gateway import current_gateway
from promptly.services import drains
from promptly.services.operator_mail import alerts, digest, outages
from promptly.services.operator_mail.topics import TOPICS
from promptly.settings import current_settings
from promptly.tasks import alone

logger = logging.getLogger(__name__)

# Servers that are probed at the same time; each may take some seconds not to answer.
PROBES = 8


@shared_task(name="promptly.tasks.operator_mail.alert")
def alert() -> None:
    """Mail what needs the operator and has not been reported, a transaction for each topic."""
    settings = current_settings()
    if not settings.mails_operator:
        return
    for topic in TOPICS:
        with alone(f"operator_mail.{topic.name}") as chosen:
            if chosen:
                alerts.report(topic, settings)


@shared_task(name="promptly.tasks.operator_mail.send_digest")
def send_digest() -> None:
    """Mail yesterday's figures once, as soon as they are complete."""
    settings = current_settings()
    if not settings.mails_operator:
        return
    with alone("operator_mail.digest") as chosen:
        day = digest.send(settings) if chosen else None
    if day is not None:
        logger.info("digest queued", extra={"day": day.isoformat()})


@shared_task(name="promptly.tasks.operator_mail.probe")
def probe() -> None:
    """Probe every model server and record which ones do not answer.

    Gateways probe too, but each for itself, and only while it has requests. A drained server may
    be away: the operator knows.
    """
    if not current_settings().mails_operator:
        return
    pool = current_gateway().pool
    with ThreadPoolExecutor(PROBES) as threads:
        answers = list(threads.map(pool.probe, pool.servers))
    with alone("operator_mail.probe") as chosen:
        if chosen:
            drained = drains.drained()
            outages.record(
                {
                    server.name: ready or server.url in drained
                    for server, ready in zip(pool.servers, answers, strict=True)
                }
            )
