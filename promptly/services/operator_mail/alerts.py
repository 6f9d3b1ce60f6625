"""Alerts: each thing that needs the operator is mailed once, while it lasts.

A topic's subjects are found by a query, compared with the alerts that have been sent, and mailed
together. The alerts and their mail are one transaction, and a unique index permits one open alert
of a subject, so that neither a crash nor a second worker repeats or loses one. An alert ends when
its subject does; a subject that returns later is news again.
"""

from dataclasses import dataclass

from sqlalchemy import text

from promptly.extensions import db
from promptly.services.mail import outbox
from promptly.services.mail.messages import OPERATOR_ALERT
from promptly.services.operator_mail.topics import MOST_ITEMS, Topic
from promptly.settings import Settings

# Mails about one topic within an hour; later news waits and is then mailed together.
MOST_AN_HOUR = 4
RETENTION_DAYS = 7

# Mails of the last hour: all alerts of one mail have the time of its transaction.
_SENT = text("""
SELECT count(DISTINCT at) FROM (
    SELECT created_at AS at FROM operator_alerts WHERE topic = :topic
    UNION ALL
    SELECT ended_at FROM operator_alerts WHERE topic = :topic AND :reports_ends
) AS sent WHERE at > now() - interval '1 hour'
""")

_CHANGE = """
WITH lasting AS MATERIALIZED ({lasting}),
starting AS MATERIALIZED ({starting}),
ended AS (
    UPDATE operator_alerts a SET ended_at = now()
    WHERE a.topic = :topic AND a.ended_at IS NULL
      AND NOT EXISTS (SELECT FROM lasting l WHERE l.subject = a.subject)
    RETURNING subject
),
started AS (
    INSERT INTO operator_alerts (topic, subject)
    SELECT :topic, s.subject FROM starting s
    WHERE NOT EXISTS (
        SELECT FROM operator_alerts a
        WHERE a.topic = :topic AND a.subject = s.subject AND a.ended_at IS NULL
    )
    ON CONFLICT (topic, subject) WHERE ended_at IS NULL DO NOTHING
    RETURNING subject
)
SELECT (SELECT count(*) FROM started) AS started,
       -- Numbers are in their own order, so oldest first.
       ARRAY(SELECT subject FROM started ORDER BY length(subject), subject LIMIT :most) AS first,
       (SELECT count(*) FROM ended) AS ended,
       ARRAY(SELECT subject FROM ended ORDER BY length(subject), subject LIMIT :most) AS first_ended
"""

_PURGE = text("""
DELETE FROM operator_alerts
WHERE topic = :topic AND ended_at < now() - make_interval(days => :days)
""")


# The topic of cases has their ids as subjects.
_KNOWS_OF = text("""
SELECT EXISTS (
    SELECT FROM payment_cases c
    JOIN operator_alerts a ON a.topic = 'case' AND a.subject = c.id::text AND a.ended_at IS NULL
    WHERE c.order_id = :order_id AND c.resolution IS NULL
)
""")


@dataclass(frozen=True)
class News:
    """Subjects that started or ended since the last mail; of many only the first are named."""

    count: int
    subjects: list[str]


def report(topic: Topic, settings: Settings) -> None:
    """Mail the operator the news of a topic, if there are any; to be run alone."""
    values = {"topic": topic.name, "reports_ends": topic.describe_end is not None}
    if (db.session.scalar(_SENT, values) or 0) >= MOST_AN_HOUR:
        return
    started, ended = _change(topic, settings)
    if started.count:
        _mail(topic.describe(started.count, started.subjects, settings), settings)
    if ended.count and topic.describe_end is not None:
        _mail(topic.describe_end(ended.count, ended.subjects, settings), settings)
    db.session.execute(_PURGE, {"topic": topic.name, "days": RETENTION_DAYS})


def knows_of(order_id: int) -> bool:
    """Whether the operator has been mailed of an open case of an order."""
    return bool(db.session.scalar(_KNOWS_OF, {"order_id": order_id}))


def _change(topic: Topic, settings: Settings) -> tuple[News, News]:
    statement = text(_CHANGE.format(lasting=topic.lasting, starting=topic.starting))
    values = {"topic": topic.name, "most": MOST_ITEMS, **topic.values(settings)}
    row = db.session.execute(statement, values).one()
    return News(row.started, row.first), News(row.ended, row.first_ended)


def _mail(payload: dict[str, object], settings: Settings) -> None:
    outbox.add(OPERATOR_ALERT, settings.operator_email, user_id=None, payload=payload)
