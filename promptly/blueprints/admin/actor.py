"""The operator acting in the current request, for the ledger and the audit log.

An actor is `panel:` or `api:`, for a session or a key in the request, and the name of the key.
"""

from typing import Any

from flask import g

from promptly.services.audit import Operator


def use_panel(name: str) -> None:
    """Record that the request uses this operator's session."""
    g.actor, g.uses_panel = f"panel:{name}", True


def use_api(name: str) -> None:
    """Record that the request carries this operator's key."""
    g.actor, g.uses_panel = f"api:{name}", False


def operator() -> Operator:
    """Return the request's actor and address."""
    return Operator(g.actor, g.admin_address)


def is_panel() -> bool:
    """Return whether the request uses a panel session and is answered with pages."""
    return bool(g.uses_panel)


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
