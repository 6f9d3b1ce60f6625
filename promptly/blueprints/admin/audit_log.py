"""The audit log: every administrative act, and wrong keys that were tried."""

from flask import render_template, request

from promptly.blueprints.admin import pages
from promptly.services import audit

PAGE_SIZE = 50


def entries() -> str:
    """The log, newest first, of all or of one account, of all acts or of one kind."""
    action = request.args.get("action", "")
    action = action if action in audit.ACTIONS else ""
    user_id = pages.number("user_id")
    page = audit.entries(PAGE_SIZE, at=pages.cursor(), user_id=user_id, action=action)
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
