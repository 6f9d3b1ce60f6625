"""A raw key is only in its mail: not in the database, not in Redis, not in a log."""

import logging

import psycopg2
import pytest
import redis
from flask import Flask

from promptly.runtime.logs import JsonFormatter
from promptly.tasks import mail
from sandbox.mail import MailCatcher
from tests.support.races import run
from tests.tasks.test_mail import KEY


def everything_in(database_url: str) -> str:
    """Return every row of every table as text."""
    with psycopg2.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') "
            "AND relnamespace = 'public'::regnamespace"
        )
        parts: list[str] = []
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT t::text FROM "{table}" t')
            parts.extend(row[0] for row in cursor.fetchall())
    connection.close()
    return "\n".join(parts)


def everything_in_redis(url: str) -> str:
    """Return every key with its value as text."""
    readers = {
        "list": lambda client, key: client.lrange(key, 0, -1),
        "hash": lambda client, key: client.hgetall(key),
        "set": lambda client, key: client.smembers(key),
        "zset": lambda client, key: client.zrange(key, 0, -1),
        "string": lambda client, key: client.get(key),
    }
    with redis.Redis.from_url(url) as client:
        kinds = [(key, client.type(key).decode()) for key in client.scan_iter()]
        return repr([(key, readers[kind](client, key)) for key, kind in kinds])


def test_a_key_is_nowhere_but_in_its_mail(
    mail_app: Flask,
    mail_catcher: MailCatcher,
    fresh_database: str,
    redis_url: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    client = mail_app.test_client()
    written = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(self.format(record))

    handler = Keep()
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with caplog.at_level(logging.DEBUG):
            assert client.post("/register", data={"email": "ada@example.com"}).status_code == 200
            broker = everything_in_redis(redis_url)
            assert "promptly.tasks.mail.deliver" in broker, "the task lies in the broker"
            run(mail_app, mail.sweep)
            part = mail_catcher.wait_for("ada@example.com").get_body(("plain",))
            assert part is not None
            found = KEY.search(part.get_content())
            assert found is not None
            raw = found.group()
            assert client.post("/session", data={"key": raw}).status_code == 303
            assert client.get(f"/dashboard?key={raw}").status_code == 200
            assert client.get(f"/dashboard?key={raw[:-1]}?").status_code == 401
            logging.getLogger("somewhere").warning("a careless line with %s in it", raw)
    finally:
        root.removeHandler(handler)
    secret = raw[12:]
    everything = everything_in(fresh_database)
    assert raw[:12] in everything, "the search looks into the right database"
    assert secret not in everything
    assert secret not in broker + everything_in_redis(redis_url)
    assert any("careless" in line for line in written)
    assert secret not in "\n".join(written)
    output = capfd.readouterr()
    assert secret not in output.out + output.err
