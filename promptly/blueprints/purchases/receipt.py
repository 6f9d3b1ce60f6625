"""The receipt of a purchase, made for printing."""

from flask import g, make_response, render_template
from werkzeug.wrappers import Response

from promptly.blueprints.purchases.checkout import account
from promptly.extensions import limiter
from promptly.models import ApiKey
from promptly.services.accounts import accounts
from promptly.services.payments import orders, purchase_receipts
from promptly.settings import current_settings
from promptly.transactions import transaction

RECEIPT_VIEWS = "120 per minute"


@limiter.limit(RECEIPT_VIEWS, key_func=account)
def receipt(number: str) -> Response:
    """Show the receipt of one of the account's credited purchases."""
    key: ApiKey = g.key
    with transaction():
        order = orders.find_own(key.user_id, number)
        customer = accounts.find(user_id=key.user_id).email
        found = purchase_receipts.of(order, customer, current_settings())
    return make_response(render_template("purchase_receipt.html", receipt=found))
