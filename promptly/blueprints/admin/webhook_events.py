"""Webhook events of the payment providers: the list, one event, and its replay."""

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from promptly import labels
from promptly.blueprints.admin import actor, confirmation, flash_messages, pages
from promptly.extensions import db
from promptly.models import Order, User, WebhookEvent
from promptly.services import paging
from promptly.services.payments import webhook_inbox
from promptly.transactions import transaction


def index() -> str:
    """List events, newest first."""
    state, provider = request.args.get("state"), request.args.get("provider")
    chosen = {
        "state": state if state in labels.EVENTS else None,
        "provider": provider if provider in labels.PROVIDERS else None,
    }
    page = webhook_inbox.page(
        paging.PAGE_SIZE, pages.cursor(), state=chosen["state"], provider=chosen["provider"]
    )
    newer, older = pages.links(page)
    return render_template(
        "admin/webhooks.html",
        events=page.rows,
        newer=newer,
        older=older,
        chosen=chosen,
        words=labels,
    )


def one(event_id: int) -> str:
    """Show one event and its purchase."""
    event = webhook_inbox.find(event_id)
    order, user = _about(event)
    return render_template(
        "admin/webhook.html",
        event=event,
        order=order,
        user=user,
        words=labels,
        notice=flash_messages.notice(subject=str(event_id)),
    )


def replay(event_id: int) -> AnyResponse:
    """Process an event again; a purchase is still credited only once."""
    with transaction():
        event = webhook_inbox.find(event_id)
        order, _ = _about(event)
        user_id = None if order is None else order.user_id
        confirmation.require_account(user_id)
        before = {"state": event.state, "attempts": event.attempts}
        webhook_inbox.replay(event_id)
        act = actor.record(
            "webhook.replay",
            user_id=user_id,
            subject=str(event_id),
            before=before,
            after={"state": event.state},
        )
    return redirect(url_for("admin.webhook", event_id=event_id, act=act), 303)


def _about(event: WebhookEvent) -> tuple[Order | None, User | None]:
    order = None if event.order_id is None else db.session.get(Order, event.order_id)
    user = None if order is None or order.user_id is None else db.session.get(User, order.user_id)
    return order, user
