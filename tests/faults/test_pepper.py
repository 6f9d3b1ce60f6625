"""A gateway refuses to start with another key for mailboxes' hashes."""

from pathlib import Path

import pytest
from flask import Flask

from promptly.services.accounts import peppers
from promptly.transactions import transaction
from sandbox.process import SandboxError
from tests.support.servers import VARIABLES, Gateway, make_settings


def test_a_changed_pepper_is_named_at_the_start(
    tmp_path: Path, app: Flask, fresh_database: str, redis_url: str
) -> None:
    with app.app_context(), transaction():
        peppers.register(peppers.SessionDatabase(), make_settings())
    changed = VARIABLES["KEY_PEPPER"][::-1]
    gateway = Gateway(
        tmp_path, DATABASE_URL=fresh_database, REDIS_URL=redis_url, KEY_PEPPER=changed
    )
    with pytest.raises(SandboxError) as problem:
        gateway.start()
    assert "KEY_PEPPER is not the first pepper of this installation" in str(problem.value)
    assert changed[:12] not in str(problem.value)
