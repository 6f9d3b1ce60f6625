"""Model servers that are drained: they finish what they run and get no new request.

PostgreSQL keeps them, so that a restart changes nothing. Every process reads them every few seconds
(`gateway.drained_servers`).
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from promptly.clock import utcnow
from promptly.errors import InvalidRequest
from promptly.extensions import db
from promptly.models import DrainedUpstream
from promptly.services.audit import Operator

MAX_NOTE = 500


def drain(url: str, operator: Operator, note: str | None = None) -> int | None:
    """Send a server no new request; return the audit entry's number, None if it is drained already.

    Raises InvalidRequest if the note is too long.
    """
    if note is not None and (len(note) > MAX_NOTE or "\x00" in note):
        raise InvalidRequest(f"The note may have at most {MAX_NOTE} characters.", param="note")
    row = {"url": url, "since": utcnow(), "by": operator.actor, "note": note or None}
    statement = insert(DrainedUpstream).values(row).on_conflict_do_nothing()
    if db.session.scalar(statement.returning(DrainedUpstream.url)) is None:
        return None
    after = {"state": "drained"} | ({"note": note} if note else {})
    return operator.record(
        "upstream.drain", subject=url, before={"state": "in service"}, after=after
    )


def resume(url: str, operator: Operator) -> int | None:
    """Send a server requests again; return the audit entry's number, None if it is in service."""
    statement = delete(DrainedUpstream).where(DrainedUpstream.url == url)
    since: datetime | None = db.session.scalar(statement.returning(DrainedUpstream.since))
    if since is None:
        return None
    before: dict[str, Any] = {"state": "drained", "since": since}
    return operator.record(
        "upstream.resume", subject=url, before=before, after={"state": "in service"}
    )


def drained() -> dict[str, DrainedUpstream]:
    """Return the drained servers by their URLs."""
    return {row.url: row for row in db.session.scalars(select(DrainedUpstream))}


def find(written: str, urls: Iterable[str]) -> str:
    """Return the configured URL that an operator means.

    It may be written in full, as host:port, or as the beginning of one URL only. Raises
    InvalidRequest for none or several.
    """
    known = list(dict.fromkeys(urls))
    wanted = written.strip().rstrip("/")
    exact = [url for url in known if wanted in (url, urlsplit(url).netloc)]
    found = exact or [url for url in known if wanted and url.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    problem = "fits several model servers" if found else "is not a configured model server"
    listed = ", ".join(found or known) or "none is configured"
    raise InvalidRequest(f"'{written[:200]}' {problem}: {listed}.", param="url")
