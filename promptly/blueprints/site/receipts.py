"""The account's requests: the list, and the receipt of each."""

from flask import Response, g, make_response, render_template, request

from promptly.models import ApiKey
from promptly.services.usage import receipts

REQUESTS_A_PAGE = 50


def history() -> Response:
    """List the account's requests, newest first."""
    key: ApiKey = g.key
    before = request.args.get("before")
    found, more = receipts.history(key.user_id, REQUESTS_A_PAGE, before)
    return make_response(
        render_template(
            "dashboard/requests.html", receipts=found, older=more, newest=before is None
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
