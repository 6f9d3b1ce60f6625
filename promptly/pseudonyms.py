"""Names under which Redis may know an address or a mailbox: hashes under the pepper.

Without the pepper, nobody who reads Redis learns who visited. After a change of the pepper, limits
begin anew.
"""

import hmac
from hashlib import blake2b

from flask import Flask, current_app

from promptly.proxies import client_address, client_network
from promptly.secret import Secret
from promptly.settings import Settings


class Pseudonyms:
    """Hashes under a key of their own, so that they differ from all others under the pepper."""

    def __init__(self, key_pepper: Secret) -> None:
        pepper = key_pepper.reveal().encode()
        self._key = hmac.digest(pepper, b"promptly.pseudonyms", "sha256")

    def of(self, text: str) -> str:
        """Return 24 hexadecimal characters that stand for the text; takes about a microsecond."""
        return blake2b(text.encode(errors="replace"), key=self._key, digest_size=12).hexdigest()


def configure(app: Flask, settings: Settings) -> None:
    """Add the pseudonyms to the application."""
    app.extensions["pseudonyms"] = Pseudonyms(settings.key_pepper)


def pseudonym(text: str) -> str:
    """Return the pseudonym of a text in the current application."""
    pseudonyms: Pseudonyms = current_app.extensions["pseudonyms"]
    return pseudonyms.of(text)


def of_network() -> str:
    """Return the pseudonym of the client's network."""
    return pseudonym(client_network())


def of_address() -> str:
    """Return the pseudonym of the client's address."""
    return pseudonym(client_address())
