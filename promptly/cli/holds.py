"""flask holds: tokens held by running requests."""

import click
from flask.cli import AppGroup

from promptly.cli.operators import operator
from promptly.cli.output import json_option, limit_option, reports_errors, show_object, show_rows
from promptly.errors import InvalidRequest
from promptly.request_ids import public_id
from promptly.services.metering import recovery, running
from promptly.transactions import transaction

group = AppGroup("holds", help="Open holds of running requests: list, recover.")


@group.command("list")
@limit_option
@json_option
def list_holds(limit: int, as_json: bool) -> None:
    """List open holds, oldest first."""
    columns = (
        "request_id",
        "email",
        "held_trial",
        "held_paid",
        "prompt_tokens",
        "completion_tokens",
        "created_at",
        "checkpoint_at",
    )
    with transaction():
        rows = [
            (
                public_id(row.hold.request_id),
                row.email,
                row.hold.held_trial,
                row.hold.held_paid,
                row.hold.prompt_tokens,
                row.hold.completion_tokens,
                row.hold.created_at,
                row.hold.checkpoint_at,
            )
            for row in running.page(limit).rows
        ]
    show_rows(columns, rows, as_json)


@group.command("recover")
@click.argument("request_id")
@json_option
@reports_errors
def recover(request_id: str, as_json: bool) -> None:
    """Settle a dead process's request at its last checkpoint, as the sweep would."""
    with transaction() as session:
        hold = running.find(request_id)
        before = running.figures(hold)
        if not recovery.recover(session, hold.request_id):
            raise InvalidRequest("This request has ended, or its process is still alive.")
        operator().record(
            "hold.recover",
            user_id=hold.user_id,
            subject=request_id,
            before=before,
            after={"state": "recovered"},
        )
    show_object({"request_id": request_id, "state": "recovered"} | before, as_json)
