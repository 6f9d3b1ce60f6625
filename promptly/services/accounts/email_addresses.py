"""Email addresses: validation, and folding of all spellings of one mailbox."""

import hashlib
import hmac

import email_validator

from promptly.errors import InvalidRequest
from promptly.secret import Secret
from promptly.services.accounts import mail_providers

# Private networks do deliver mail at .local or .internal; check only the shape.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()

MAX_LENGTH = 254

# The version of the rules of `fold`, in `users.mailbox_folding`.
FOLDING = 2


def normalise(address: str) -> str:
    """Return the address as stored: domain in lower case and ASCII, local part as written.

    Raises InvalidRequest (param `email`) with a message that can be shown.
    """
    address = address.strip()
    if not address:
        raise InvalidRequest("Please enter your email address.", param="email")
    if len(address) > MAX_LENGTH:
        raise InvalidRequest("This email address is too long.", param="email")
    try:
        parsed = email_validator.validate_email(
            address, check_deliverability=False, allow_smtputf8=False
        )
    except email_validator.EmailNotValidError as problem:
        raise InvalidRequest(
            f"This is not a valid email address: {problem}", param="email"
        ) from None
    return parsed.ascii_email or parsed.normalized


def fold(address: str) -> str:
    """Return one text for all spellings of a mailbox, as far as its provider is known to fold them.

    `address` must be normalised.
    """
    local, _, domain = address.lower().rpartition("@")
    folded, domain = mail_providers.fold(local, domain)
    return f"{folded or local}@{domain}"


def fold_plainly(address: str) -> str:
    """Return the address as FOLDING 1 did: in lower case, without plus-tag."""
    local, _, domain = address.lower().rpartition("@")
    return f"{local.partition('+')[0] or local}@{domain}"


def mailbox_hash(address: str, key: Secret) -> bytes:
    """Return the keyed hash under which a mailbox is remembered, 32 bytes."""
    return _hash(fold(address), key)


def mailbox_hashes(address: str, key: Secret) -> set[bytes]:
    """Return the hashes of a mailbox under this folding and the one before it."""
    return {_hash(fold(address), key), _hash(fold_plainly(address), key)}


def _hash(folded: str, key: Secret) -> bytes:
    return hmac.digest(key.reveal().encode(), b"mailbox:" + folded.encode(), hashlib.sha256)
