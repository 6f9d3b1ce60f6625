"""Names under which Redis may know an address or a mailbox: hashes under the pepper.

Without the pepper, nobody who reads Redis learns who visited. After a change of the pepper, limits
begin anew.
"""

import hmac
from hashlib import blake2b

from flask import Flask, current_app

from promptly.proxies import client_address, client_network
from promptly.settings import Settings


def configure(app: Flask, settings: Settings) -> None:
    """Derive the key of the hashes, so that they differ from all others under the pepper."""
    pepper = settings.key_pepper.reveal().encode()
    app.extensions["pseudonym_key"] = hmac.digest(pepper, b"promptly.pseudonyms", "sha256")


def pseudonym(text: str) -> str:
    """Return 24 hexadecimal characters that stand for the text; takes about a microsecond."""
    key: bytes = current_app.extensions["pseudonym_key"]
    return blake2b(text.encode(errors="replace"), key=key, digest_size=12).hexdigest()


def of_network() -> str:
    """Return the pseudonym of the client's network."""
    return pseudonym(client_network())


def of_address() -> str:
    """Return the pseudonym of the client's address."""
    return pseudonym(client_address())
