"""Neither the admin key nor a mistyped one appears in a table, a log or Redis."""

import logging

import pytest
from flask.testing import FlaskClient

from promptly.runtime.logs import JsonFormatter
from tests.blueprints.admin.conftest import ADMIN_KEY, NAVIGATION
from tests.invariants.test_keys_stay_secret import everything_in, everything_in_redis

MISTYPED = "the-operators-key-0123456789-mistyped"


def test_keys_leave_no_trace(
    script: FlaskClient,
    fresh_database: str,
    redis_url: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    formatter = JsonFormatter()
    with caplog.at_level(logging.DEBUG):
        for key in (ADMIN_KEY, MISTYPED):
            script.get(f"/admin/users?key={key}")
            script.get(f"/admin?key={key}", headers=NAVIGATION)
            script.get(f"/admin/nowhere?key={key}")
            script.get(f"/admin/users/9?key={key}")
            script.post(f"/admin/adjust?key={key}", data={"key": key, "delta": "1"})
            script.post("/admin/session", data={"key": key, "next": f"/admin?key={key}"})
            script.post("/admin/delete", json={"key": key})
    lines = "\n".join(formatter.format(record) for record in caplog.records)
    assert "wrong admin key" in lines and "127.0.0.1" in lines
    output = capfd.readouterr()
    everything = everything_in(fresh_database)
    assert "session.refuse" in everything, "the search looks into the right database"
    found = "\n".join([lines, output.out, output.err, everything, everything_in_redis(redis_url)])
    assert ADMIN_KEY not in found and MISTYPED not in found
