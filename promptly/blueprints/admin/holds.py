"""Open holds: running requests with their accounts, and those whose process has died."""

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from promptly.blueprints.admin import actor, confirmation, flash_messages
from promptly.blueprints.admin.confirmation import Confirmation
from promptly.errors import InvalidRequest
from promptly.extensions import db
from promptly.models import User
from promptly.request_ids import parse_id, public_id
from promptly.services import overview, paging
from promptly.services.metering import recovery, running
from promptly.services.paging import Cursor
from promptly.transactions import transaction


def index() -> str:
    """List open holds, oldest first."""
    after = parse_id(request.args.get("after", ""))
    page = running.page(paging.PAGE_SIZE, Cursor(after))
    return render_template(
        "admin/holds.html",
        rows=page.rows,
        following=page.next and url_for("admin.holds", after=public_id(page.next.key)),
        first=after is None,
        totals=overview.running(),
        stale_seconds=recovery.STALE_SECONDS,
        notice=flash_messages.notice(),
    )


def recover_question(request_id: str) -> str:
    """Confirm settling a dead request."""
    hold = running.find(request_id)
    user = db.session.get(User, hold.user_id)
    # A request without output is not charged.
    prompt = (hold.prompt_tokens, hold.cached_prompt_tokens) if hold.completion_tokens else (0, 0)
    cost = hold.price_version.price.cost(*prompt, hold.completion_tokens)
    return confirmation.ask(
        Confirmation(
            title="Settle this request now?",
            facts=[
                ("Request", request_id),
                ("Account", "deleted" if user is None else user.email),
                ("Model", f"{hold.model}, {hold.endpoint}"),
                ("Held", f"{hold.held_paid + hold.held_trial:,} tokens"),
            ],
            effects=[
                f"{cost:,} tokens for its last checkpoint are charged; the rest is released.",
                f"A process counts as dead after {recovery.STALE_SECONDS} seconds of silence."
                " While the workers run, the sweep settles such requests automatically.",
            ],
            action=url_for("admin.recover_hold", request_id=request_id),
            button="Settle",
            back=url_for("admin.holds"),
            user_id=hold.user_id,
        )
    )


def recover(request_id: str) -> AnyResponse:
    """Settle a dead request at its last checkpoint."""
    with transaction() as session:
        hold = running.find(request_id)
        confirmation.require_account(hold.user_id)
        before = running.figures(hold)
        if not recovery.recover(session, hold.request_id):
            raise InvalidRequest("This request has ended, or its process is still alive.")
        act = actor.record(
            "hold.recover",
            user_id=hold.user_id,
            subject=request_id,
            before=before,
            after={"state": "recovered"},
        )
    return redirect(url_for("admin.holds", act=act), 303)
