"""Check the addresses of operator and support, and that mail reaches the operator."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from promptly.extensions import db
from promptly.models import OutboxMail
from promptly.services.mail.messages import OPERATOR_KINDS
from promptly.settings import Settings

LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


def findings(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield pairs of level and message."""
    is_local = urlsplit(settings.base_url).hostname in LOCAL
    if settings.support_email:
        yield "ok", f"customers see {settings.support_email}"
    elif not is_local:
        message = "customers see the address of SMTP_FROM and reply to it: set SUPPORT_EMAIL"
        yield "warning", f"SUPPORT_EMAIL is not set: {message} if nobody reads it"
    if not settings.operator_email:
        yield "warning", "OPERATOR_EMAIL is not set: nobody is alerted of failures and open cases"
        return
    if not settings.smtp_host:
        yield "warning", "OPERATOR_EMAIL gets nothing without SMTP_HOST"
        return
    try:
        failed = _failed()
    except SQLAlchemyError:
        # The checks of PostgreSQL and migrations report it.
        db.session.rollback()
        return
    if failed:
        mails = "1 email" if failed == 1 else f"{failed} emails"
        advice = "correct OPERATOR_EMAIL, then send them again or cancel them in the panel"
        yield "error", f"{mails} to OPERATOR_EMAIL failed: {advice}"
    else:
        yield "ok", f"alerts go to {settings.operator_email}"
    if not settings.admin_url and settings.trusted_proxy_hops and not is_local:
        message = f"links in alerts lead to {settings.panel_url}"
        yield "warning", f"{message}: set ADMIN_URL if the panel has another address"
    if not settings.database_size_warn_bytes:
        yield "warning", "DATABASE_SIZE_WARN_BYTES is 0: no alert before the disk is full"


def _failed() -> int:
    query = select(func.count()).where(
        OutboxMail.state == "failed", OutboxMail.kind.in_(OPERATOR_KINDS)
    )
    return db.session.scalar(query) or 0
