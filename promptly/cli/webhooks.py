"""flask webhooks: events sent by payment providers, and their processing."""

import click
from flask.cli import AppGroup

from promptly.cli.operators import operator
from promptly.cli.output import (
    before_option,
    json_option,
    limit_option,
    reports_errors,
    show_object,
    show_rows,
)
from promptly.models import Order
from promptly.models.payments import PROVIDERS
from promptly.models.states import EventState
from promptly.services.paging import Cursor
from promptly.services.payments import webhook_inbox
from promptly.transactions import transaction

group = AppGroup("webhooks", help="Webhook events: list, show, replay.")

COLUMNS = (
    "id",
    "received_at",
    "provider",
    "type",
    "object_id",
    "state",
    "attempts",
    "reason",
)


@group.command("list")
@click.option(
    "--state",
    type=click.Choice([state.value for state in EventState]),
    help="Only events in this state.",
)
@click.option("--provider", type=click.Choice(PROVIDERS), help="Only events of this provider.")
@limit_option
@before_option
@json_option
def list_events(
    state: str | None, provider: str | None, limit: int, before: int | None, as_json: bool
) -> None:
    """List events, newest first."""
    with transaction():
        found = webhook_inbox.page(limit, Cursor(before), state=state, provider=provider)
        rows = [tuple(getattr(event, column) for column in COLUMNS) for event in found.rows]
    show_rows(COLUMNS, rows, as_json)


@group.command("show")
@click.argument("event_id", type=int)
@json_option
@reports_errors
def show(event_id: int, as_json: bool) -> None:
    """Show one event."""
    columns = (*COLUMNS, "event_id", "order_id", "next_at", "handled_at")
    with transaction():
        event = webhook_inbox.find(event_id)
        values = {column: getattr(event, column) for column in columns}
    show_object(values, as_json)


@group.command("replay")
@click.argument("event_id", type=int)
@json_option
@reports_errors
def replay(event_id: int, as_json: bool) -> None:
    """Process an event again; a payment is still credited only once."""
    with transaction() as session:
        seen = webhook_inbox.find(event_id)
        before = {"state": seen.state, "attempts": seen.attempts}
        order = None if seen.order_id is None else session.get(Order, seen.order_id)
        event = webhook_inbox.replay(event_id)
        operator().record(
            "webhook.replay",
            user_id=None if order is None else order.user_id,
            subject=str(event_id),
            before=before,
            after={"state": event.state},
        )
        values = {"id": event.id, "type": event.type, "state": event.state}
    show_object(values, as_json)
