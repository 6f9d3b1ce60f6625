"""Who acts in this request, for the ledger and the audit log."""

from typing import Any

from flask import g

from promptly.services.audit import Operator

PANEL, API = "panel", "api"


def operator() -> Operator:
    """Whoever sent this request: by session or by key, and from where."""
    return Operator(g.actor, g.admin_address)


def is_panel() -> bool:
    """Whether a person with a session acts, to be answered with pages."""
    return bool(g.actor == PANEL)


def record(
    action: str,
    *,
    user_id: int | None = None,
    subject: str | None = None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> int:
    """Write an act of this request into the audit log; returns the entry's number."""
    return operator().record(action, user_id=user_id, subject=subject, before=before, after=after)
