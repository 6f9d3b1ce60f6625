"""The operator acting in the current request, for the ledger and the audit log."""

from typing import Any

from flask import g

from promptly.services.audit import Operator

PANEL, API = "panel", "api"


def operator() -> Operator:
    """Return how the request authenticated (session or key), and its address."""
    return Operator(g.actor, g.admin_address)


def is_panel() -> bool:
    """Return whether the request uses a panel session and is answered with pages."""
    return bool(g.actor == PANEL)


def record(
    action: str,
    *,
    user_id: int | None = None,
    subject: str | None = None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> int:
    """Record an action of this request in the audit log; return the entry's id."""
    return operator().record(action, user_id=user_id, subject=subject, before=before, after=after)
