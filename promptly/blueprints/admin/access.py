"""The two checks before every administrative action: the client's address and ADMIN_KEY.

Both must pass, and a refusal does not reveal which one failed.
"""

import hmac
import ipaddress
import logging

from flask import current_app, request
from sqlalchemy.exc import SQLAlchemyError

from promptly.blueprints.admin.throttle import Throttle
from promptly.errors import Forbidden
from promptly.proxies import client_network, forwarded_address, passed_a_proxy
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
    """Raise Forbidden if no ADMIN_KEY is set."""
    if not current_settings().admin_key:
        raise Forbidden


def check_key(presented: str, address: str) -> None:
    """Raise Forbidden for a wrong key, RateLimited after too many of them.

    While a network is limited, the right key is refused as well: otherwise guessing could go on.
    """
    throttle: Throttle = current_app.extensions["admin_throttle"]
    is_right = _is_the_key(presented)
    throttle.admit(client_network(), is_right=is_right)
    if not is_right:
        _record_refusal(address)
        raise Forbidden


def _is_the_key(presented: str) -> bool:
    expected = current_settings().admin_key.reveal().encode()
    # Forms and URLs decode a plus as a space, and base64 keys contain plus signs.
    spellings = (presented.strip(), presented.strip("\r\n\t").replace(" ", "+"))
    alike = [hmac.compare_digest(text.encode(errors="replace"), expected) for text in spellings]
    return bool(expected) and any(alike)


def _record_refusal(address: str) -> None:
    logger.warning("wrong admin key", extra={"address": address})
    try:
        with transaction():
            audit.record("session.refuse", actor="unknown", address=address)
    except SQLAlchemyError as problem:
        # Refuse the key even if the audit entry cannot be written.
        logger.warning("not in the audit log", extra={"reason": type(problem).__name__})
