"""Outages of model servers, as the probes of a periodic task find them.

PostgreSQL keeps them, so that neither a restart of the task's process nor of Redis hides one.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import select, text

from promptly.extensions import db
from promptly.models import ModelServerOutage

TOPIC = "model_server"
# An outage is reported once it has lasted this long.
REPORTED_SECONDS = 300
# Without a probe for this long, nobody knows whether the server was away all the time.
GAP_SECONDS = 120

# Queries of the alerts' topic, and their parameters.
STARTING = """
SELECT server AS subject FROM model_server_outages
WHERE since <= now() - make_interval(secs => :reported)
  AND seen_at > now() - make_interval(secs => :gap)
"""
LASTING = "SELECT server AS subject FROM model_server_outages"
VALUES = {"reported": REPORTED_SECONDS, "gap": GAP_SECONDS}

_AWAY = text("""
INSERT INTO model_server_outages AS o (server, since, seen_at)
SELECT server, now(), now() FROM unnest(CAST(:servers AS text[])) AS server
ON CONFLICT (server) DO UPDATE
SET seen_at = now(),
    since = CASE
        WHEN o.seen_at < now() - make_interval(secs => :gap) AND NOT EXISTS (
            SELECT FROM operator_alerts a
            WHERE a.topic = :topic AND a.subject = o.server AND a.ended_at IS NULL
        ) THEN now()
        ELSE o.since
    END
""")

# Another machine may have other servers, so that those are not dropped at once.
_OVER = text("""
DELETE FROM model_server_outages
WHERE server = ANY(CAST(:ready AS text[]))
   OR (server <> ALL(CAST(:known AS text[])) AND seen_at < now() - interval '1 hour')
""")


def record(is_ready: Mapping[str, bool]) -> None:
    """Record the probes of all configured servers, each ready or not; to be run alone."""
    ready = [server for server, answers in is_ready.items() if answers]
    away = [server for server, answers in is_ready.items() if not answers]
    db.session.execute(_OVER, {"ready": ready, "known": list(is_ready)})
    db.session.execute(_AWAY, {"servers": away, "topic": TOPIC, "gap": GAP_SECONDS})


def since(servers: Sequence[str]) -> dict[str, datetime]:
    """Return the start of the outage of each of these servers that has one."""
    query = select(ModelServerOutage).where(ModelServerOutage.server.in_(servers))
    return {row.server: row.since for row in db.session.scalars(query)}


def reported() -> list[str]:
    """Return the servers that have been away for REPORTED_SECONDS."""
    rows = db.session.execute(text(f"{STARTING} ORDER BY subject"), VALUES)
    return [row.subject for row in rows]
