"""GET /v1/balance: the account's tokens."""

from flask import Response, jsonify

from promptly.blueprints.v1 import in_flask
from promptly.runtime.database import API
from promptly.services.ledger import balances
from promptly.transactions import use_pool


def show_balance() -> Response:
    """Return the balance, in tokens."""
    use_pool(API)
    return jsonify(balances.read(in_flask.caller().user_id))
