"""Rate limits of registration, sign-in, deletion emails and exports, and their keys."""

import hashlib
from collections.abc import Callable
from typing import Any

from flask import request

from promptly.errors import InvalidRequest
from promptly.extensions import limiter
from promptly.proxies import client_network
from promptly.services.accounts import email_addresses
from promptly.settings import current_settings

REGISTRATIONS_PER_ADDRESS = "3 per hour"
FAILED_SIGN_INS = "20 per minute"
# Per account.
DELETION_MAILS = "3 per hour"
EXPORTS = "60 per hour"

View = Callable[..., Any]


def entered_mailbox() -> str:
    """Return the form's mailbox as a hash, so that no address is stored in Redis."""
    try:
        address = email_addresses.normalise(request.form.get("email", ""))
    except InvalidRequest:
        return "invalid:" + client_network()
    return hashlib.sha256(email_addresses.fold(address).encode()).hexdigest()


def limit_registration(view: View) -> View:
    """Limit a registration form by client network and by mailbox."""
    by_client = limiter.limit(
        lambda: f"{current_settings().registration_rate_limit} per hour",
        key_func=client_network,
        methods=["POST"],
    )
    by_mailbox = limiter.limit(
        REGISTRATIONS_PER_ADDRESS, key_func=entered_mailbox, methods=["POST"]
    )
    limited: View = by_client(by_mailbox(view))
    return limited
