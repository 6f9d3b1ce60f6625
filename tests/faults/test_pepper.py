"""A gateway refuses to start with another key for mailboxes' hashes."""

import os
import signal
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import update

from promptly.models import PepperVersion
from promptly.services.accounts import peppers
from promptly.transactions import transaction
from sandbox.process import SandboxError
from tests.support.books import wait_for
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
    with pytest.raises(SandboxError, match="gunicorn ended") as problem:
        gateway.start()
    assert "KEY_PEPPER is not the first pepper of this installation" in str(problem.value)
    assert changed[:12] not in gateway.log_text()
    assert "Traceback" not in gateway.log_text()


def test_a_worker_that_replaces_another_does_not_end_the_gateway(
    tmp_path: Path, app: Flask, fresh_database: str, redis_url: str
) -> None:
    """The database of another installation may have been restored meanwhile."""
    gateway = Gateway(tmp_path, DATABASE_URL=fresh_database, REDIS_URL=redis_url).start()
    try:
        with app.app_context(), transaction() as session:
            session.execute(update(PepperVersion).values(fingerprint=b"of another one"))
        [first] = gateway.worker_pids()
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: first not in gateway.worker_pids() and gateway.is_ready(), "a new worker")
    finally:
        gateway.kill()
