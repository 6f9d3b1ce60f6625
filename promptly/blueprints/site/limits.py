"""Rate limits of registration, sign-in, deletion emails and exports, and their keys."""

from collections.abc import Callable
from typing import Any

from flask import request

from promptly import pseudonyms
from promptly.errors import InvalidRequest
from promptly.extensions import limiter
from promptly.services.accounts import email_addresses
from promptly.settings import current_settings

REGISTRATIONS_PER_ADDRESS = "3 per hour"
FAILED_SIGN_INS = "20 per minute"
# Per account.
DELETION_MAILS = "3 per hour"
EXPORTS = "60 per hour"

View = Callable[..., Any]


def entered_mailbox() -> str:
    """Return the pseudonym of the form's mailbox."""
    try:
        address = email_addresses.normalise(request.form.get("email", ""))
    except InvalidRequest:
        return "invalid:" + pseudonyms.of_network()
    return pseudonyms.pseudonym(email_addresses.fold(address))


def limit_registration(view: View) -> View:
    """Limit a registration form by client network and by mailbox."""
    by_client = limiter.limit(
        lambda: f"{current_settings().registration_rate_limit} per hour",
        key_func=pseudonyms.of_network,
        methods=["POST"],
    )
    by_mailbox = limiter.limit(
        REGISTRATIONS_PER_ADDRESS, key_func=entered_mailbox, methods=["POST"]
    )
    limited: View = by_client(by_mailbox(view))
    return limited
