"""The audit log: every administrative action, and attempts with a wrong key."""

from flask import render_template, request

from promptly.blueprints.admin import pages
from promptly.services import audit, paging


def entries() -> str:
    """List entries, newest first, optionally of one account or one kind of action."""
    action = request.args.get("action", "")
    action = action if action in audit.ACTIONS else ""
    user_id = pages.number("user_id")
    page = audit.entries(paging.PAGE_SIZE, at=pages.cursor(), user_id=user_id, action=action)
    newer, older = pages.links(page)
    return render_template(
        "admin/audit.html",
        entries=page.rows,
        actions=audit.ACTIONS,
        action=action,
        user_id=user_id,
        newer=newer,
        older=older,
    )
