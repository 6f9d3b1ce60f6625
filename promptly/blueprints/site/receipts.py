"""The account's requests: the list, and the receipt of each."""

from flask import Response, g, make_response, render_template, request

from promptly.models import ApiKey
from promptly.services import paging
from promptly.services.usage import receipts


def history() -> Response:
    """List the account's requests, newest first."""
    key: ApiKey = g.key
    before = request.args.get("before")
    page = receipts.history(key.user_id, paging.PAGE_SIZE, before)
    return make_response(
        render_template(
            "dashboard/requests.html",
            receipts=page.rows,
            older=page.rows[-1].request_id if page.next else None,
            newest=before is None,
        )
    )


def receipt(request_id: str) -> Response:
    """Show the receipt of one request: usage, cost and outcome."""
    key: ApiKey = g.key
    found = receipts.read(key.user_id, request_id)
    return make_response(
        render_template(
            "dashboard/request.html",
            receipt=found,
            key_name=receipts.key_names(key.user_id, {found.key_id}).get(found.key_id),
        )
    )
