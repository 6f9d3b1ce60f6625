"""The doctor on older secrets: which are still needed."""

from typing import Any

import pytest
from flask import Flask

from promptly.cli import rotation_checks
from promptly.secret import Secret
from promptly.services.accounts import keys, peppers
from promptly.transactions import transaction
from tests.support import factories
from tests.support.servers import make_settings

OLD, NEW = make_settings().key_pepper, Secret("a new pepper, long enough " * 2)
SWITCHED = {"key_pepper": NEW, "key_pepper_previous": (OLD,)}


def found(**values: Any) -> list[tuple[str, str]]:
    return list(rotation_checks.findings(make_settings(**values)))


@pytest.fixture
def active_keys(app_context: Flask) -> None:
    """Two keys under the old pepper."""
    with transaction():
        user_id = factories.user().id
        for name in ("one", "two"):
            keys.create(user_id, name, OLD)


@pytest.mark.usefixtures("active_keys")
def test_keys_that_need_an_older_pepper() -> None:
    assert found() == []
    [(level, message)] = found(key_pepper_previous=(NEW,))
    assert level == "ok" and "value 1 of KEY_PEPPER_PREVIOUS was never in force" in message
    [(level, message)] = found(**SWITCHED)
    assert level == "ok" and message.startswith("2 active keys have not been used")
    [(level, message)] = found(key_pepper=NEW, mailbox_pepper=OLD)
    assert level == "error" and message.startswith("2 active keys have been hashed with a pepper")


def test_a_pepper_that_no_key_needs(app_context: Flask) -> None:
    with transaction():
        peppers.register(peppers.SessionDatabase(), make_settings())
        keys.create(factories.user().id, "one", NEW)
    [(level, message)] = found(**SWITCHED)
    assert level == "warning" and message.endswith("set MAILBOX_PEPPER to it")
    [(level, message)] = found(**SWITCHED, mailbox_pepper=OLD)
    assert level == "ok" and message.endswith("can be dropped")
    assert found(key_pepper=NEW, mailbox_pepper=OLD) == []


def test_mailboxes_that_would_be_forgotten(app_context: Flask) -> None:
    assert found() == []
    with transaction():
        peppers.register(peppers.SessionDatabase(), make_settings())
    [(level, message)] = found(key_pepper=NEW)
    assert level == "error" and "set MAILBOX_PEPPER" in message


def test_an_older_signing_key(app_context: Flask) -> None:
    [(level, message)] = found(gateway_secret_key_previous=(NEW,))
    assert level == "ok" and "30 days" in message
