"""Identifiers that look like Stripe's."""

import secrets
import string

ALPHABET = string.ascii_letters + string.digits

# Length of an id after its prefix.
LENGTHS = {
    "pi_3": 23, "ch_3": 23, "re_3": 23, "py_3": 23, "dp_1": 23, "evt_1": 23, "req_": 14,
    "pm_1": 23, "txn_3": 23, "li_1": 23, "price_1": 23, "prod_": 14, "issfr_1": 23,
}  # fmt: skip


def new_id(prefix: str) -> str:
    """Return a new id of a kind whose ids do not contain the mode."""
    return prefix + token(LENGTHS[prefix])


def session_id(livemode: bool) -> str:
    """Return a new id of a Checkout Session."""
    return f"cs_{'live' if livemode else 'test'}_a1{token(56)}"


def thin_event_id(livemode: bool) -> str:
    """Return a new id of a thin event."""
    return f"evt_{'' if livemode else 'test_'}65{token(38)}"


def token(length: int) -> str:
    """Return random letters and digits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
