"""The two checks before every administrative action: the client's address and an admin key.

Both must pass, and a refusal does not reveal which one failed.
"""

import hmac
import ipaddress
import logging

from flask import current_app, request
from sqlalchemy.exc import SQLAlchemyError

from promptly import pseudonyms
from promptly.blueprints.admin.throttle import Throttle
from promptly.errors import Forbidden
from promptly.proxies import forwarded_address, passed_a_proxy
from promptly.services import audit
from promptly.settings import current_settings
from promptly.transactions import transaction

logger = logging.getLogger(__name__)


def allowed_address() -> str:
    """Return the client's address if it is allowed; raise Forbidden otherwise.

    A request with fewer forwarded addresses than there are proxies bypassed them: refuse it. With
    no proxy configured, refuse requests that passed one: its own address would be checked.
    """
    settings = current_settings()
    if settings.trusted_proxy_hops == 0 and passed_a_proxy():
        raise Forbidden
    text = forwarded_address(
        request.environ.get("REMOTE_ADDR") or "",
        request.environ.get("HTTP_X_FORWARDED_FOR"),
        settings.trusted_proxy_hops,
    )
    try:
        address = ipaddress.ip_address(text or "")
    except ValueError:
        raise Forbidden from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if not any(address in network for network in settings.admin_allowed_cidrs):
        raise Forbidden
    return str(address)


def require_configured_key() -> None:
    """Raise Forbidden if no admin key is set."""
    if not current_settings().keys_of_operators:
        raise Forbidden


def check_key(presented: str, address: str) -> str:
    """Return the name of the key's operator.

    Raises Forbidden for a wrong key, RateLimited after too many of them.

    While a network is limited, the right key is refused as well: otherwise guessing could go on.
    """
    throttle: Throttle = current_app.extensions["admin_throttle"]
    name = _name_of(presented)
    throttle.admit(pseudonyms.of_network(), is_right=name is not None)
    if name is None:
        _record_refusal(address)
        raise Forbidden
    return name


def _name_of(presented: str) -> str | None:
    """Compare with every key, so that the time does not reveal whose key comes close."""
    # Forms and URLs decode a plus as a space, and base64 keys contain plus signs.
    spellings = (presented.strip(), presented.strip("\r\n\t").replace(" ", "+"))
    texts = [text.encode(errors="replace") for text in spellings]
    found = None
    for name, key in current_settings().keys_of_operators.items():
        expected = key.reveal().encode()
        alike = [hmac.compare_digest(text, expected) for text in texts]
        if any(alike):
            found = name
    return found


def _record_refusal(address: str) -> None:
    logger.warning("wrong admin key", extra={"address": address})
    try:
        with transaction():
            audit.record("session.refuse", actor="unknown", address=address)
    except SQLAlchemyError as problem:
        # Refuse the key even if the audit entry cannot be written.
        logger.warning("not in the audit log", extra={"reason": type(problem).__name__})
