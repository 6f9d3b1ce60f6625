"""Rate limits of registration, sign-in, deletion emails and exports, and their keys."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from flask import request

from promptly import pseudonyms
from promptly.extensions import limiter
from promptly.services.accounts import email_addresses
from promptly.settings import current_settings

REGISTRATIONS_PER_ADDRESS = "3 per hour"
# Mistyped addresses and wrong solutions, which send no mail.
REFUSED_REGISTRATIONS = "60 per hour"
FAILED_SIGN_INS = "20 per minute"
# Per account.
DELETION_MAILS = "3 per hour"
EXPORTS = "60 per hour"

P = ParamSpec("P")
R = TypeVar("R")


def entered_mailbox() -> str:
    """Return the pseudonym of the form's mailbox.

    Raises InvalidRequest for an invalid address, which the caller has excluded.
    """
    address = email_addresses.normalise(request.form.get("email", ""))
    return pseudonyms.pseudonym(email_addresses.fold(address))


def by_client(register: Callable[P, R]) -> Callable[P, R]:
    """Limit registrations by client network."""
    limit = limiter.limit(
        lambda: f"{current_settings().registration_rate_limit} per hour",
        key_func=pseudonyms.of_network,
    )
    return cast(Callable[P, R], limit(register))


def by_mailbox(register: Callable[P, R]) -> Callable[P, R]:
    """Limit registrations by the mailbox entered in the form."""
    limit = limiter.limit(REGISTRATIONS_PER_ADDRESS, key_func=entered_mailbox)
    return cast(Callable[P, R], limit(register))


def refused_by_client(refuse: Callable[P, R]) -> Callable[P, R]:
    """Limit registrations that are refused for what their form contains, by client network."""
    limit = limiter.limit(REFUSED_REGISTRATIONS, key_func=pseudonyms.of_network)
    return cast(Callable[P, R], limit(refuse))
