"""After a full round trip a key is only in its mail: in no log, no Redis and no PostgreSQL."""

import re
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg2
import pytest
import redis
import urllib3

from tests.support.load import ask
from tests.support.process_stack import ProcessStack, register, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

KEY = re.compile(r"sk-[0-9A-Za-z]{46}")
EMAIL = "newcomer@example.com"
ADMIN_KEY = "admin-key-of-this-test-0123456789"
# Length of the prefix, the only part of a key that is shown again.
PREFIX_LENGTH = 12


def test_keys_are_nowhere(tmp_path: Path) -> None:
    stack = ProcessStack(
        tmp_path / "stack", ADMIN_KEY=ADMIN_KEY, LOG_LEVEL="debug", KEEPALIVE_COMMENT_SECONDS=1
    )
    with running(stack):
        stack.start_background()
        gateway = stack.gateway(workers=2)
        keys = []
        for number in (1, 2):
            assert register(gateway.url, EMAIL) == 200
            mail = stack.mail.wait_for(EMAIL, 60, count=number)
            body = mail.get_body(("plain",))
            assert body is not None
            keys.append(KEY.findall(body.get_content())[0])
        old, key = keys
        wrong = "sk-" + key[3:][::-1]
        stack.books.rows("UPDATE token_purchases SET paid_tokens = paid_tokens + 10000")

        assert ask(gateway.port, key, stream=True).end == "done"
        assert ask(gateway.port, key, stream=False).end == "done"
        assert ask(gateway.port, old).status == 401
        assert ask(gateway.port, wrong).status == 401
        assert ask(gateway.port, key, "error_after=3").end == "error"
        assert ask(gateway.port, key, "eof_after=3").end == "error"
        assert ask(gateway.port, key, stream=False, max_tokens=-1).status == 400
        for path in (
            f"/dashboard?key={key}",
            f"/dashboard?key={old}",
            f"/dashboard?key={wrong}&other=1",
            f"/dashboard?key={quote(key[:20])}%20{key[20:]}",
            f"/v1/models?key={key}",
            f"/v1/{key}",
            f"/{key}",
            f"/admin?key={ADMIN_KEY}",
            f"/admin?key={key}",
        ):
            for headers in ({}, {"Sec-Fetch-Mode": "navigate"}, {"x-api-key": key}):
                answer = urllib3.request(
                    "GET", gateway.url + path, headers=headers, redirect=False, retries=False
                )
                assert answer.status < 500, path
                # Neither the redirect target nor a cookie contains the key.
                for secret in (key, old, wrong, ADMIN_KEY):
                    assert secret not in repr(answer.headers), path
        for given in (key, old, wrong, key + key, f" {key}\n"):
            answer = urllib3.request(
                "POST",
                f"{gateway.url}/session",
                body=urlencode({"key": given}),
                headers={"Content-Type": "application/x-www-form-urlencoded"},
                redirect=False,
                retries=False,
            )
            assert answer.status < 500
        for path in ("/admin/session", "/admin/adjust", "/admin/grant", "/admin/delete"):
            for given in (ADMIN_KEY, ADMIN_KEY[:-1], key):
                answer = urllib3.request(
                    "POST",
                    gateway.url + path,
                    body=urlencode({"key": given, "email": "nobody@example.com", "delta": "x"}),
                    headers={"Content-Type": "application/x-www-form-urlencoded"},
                    redirect=False,
                    retries=False,
                )
                assert answer.status < 500, path
                assert given not in repr(answer.headers), path
        # Keys in malformed bodies and in the wrong fields.
        for method, path, sent in (
            ("POST", "/v1/chat/completions", f'{{"messages": "{key}"'.encode()),
            ("POST", "/v1/chat/completions", f'{{"model": 1, "{key}": 2}}'.encode()),
            ("POST", "/register", f"email={key}".encode()),
            ("BREW", f"/v1/chat/completions?key={key}", b""),
        ):
            headers = {
                "Authorization": f"Bearer {key}",
                "Content-Type": "application/x-www-form-urlencoded",
            }
            urllib3.request(method, gateway.url + path, body=sent, headers=headers, retries=False)
        # PostgreSQL and Redis restart: error messages quote what failed.
        stack.postgres.restart()
        ask(gateway.port, key)
        urllib3.request("GET", f"{gateway.url}/dashboard?key={key}", retries=False)
        stack.redis.restart()
        ask(gateway.port, key)
        gateway.stop()
        stack.stop_background()

        places = {
            **stack.log_texts(),
            "postgres.log": stack.postgres.log.read_text(errors="replace"),
            "redis.log": stack.redis.log.read_text(errors="replace"),
            "llama.log": stack.llama.log.read_text(errors="replace"),
            "upstream": repr(stack.llama.requests()),
            "redis": everything_in_redis(stack.redis.url),
            "postgres": everything_in_postgres(stack.database_url),
            **files_below(stack.postgres.data),
            **files_below(stack.redis.directory),
        }
        # Prove that the search covers each place.
        assert EMAIL in places["postgres"]
        assert "promptly" in places["redis"]
        assert '"endpoint":"chat.completions"' in places["gateway1/gateway.log"]
        assert '"mail sent"' in places["celery/worker.log"]
        assert key[:PREFIX_LENGTH] in places["postgres"]
        for secret in (key, old, wrong, ADMIN_KEY):
            # The whole key, or parts beyond the public prefix: a URL escape may split the key.
            for part in (secret, secret[PREFIX_LENGTH:], secret[-24:], secret[PREFIX_LENGTH:][:20]):
                found = [name for name, text in places.items() if part in text]
                assert found == [], (part, found)
        mailed = "".join(path.read_text() for path in stack.mail.directory.glob("*.eml"))
        assert key in mailed.replace("=\n", "")


def everything_in_redis(url: str) -> str:
    """Return all keys and values as text."""
    found: list[object] = []
    with redis.Redis.from_url(url) as client:
        for name in client.scan_iter("*"):
            found += [name, client.type(name), client.dump(name)]
            kind = client.type(name)
            if kind == b"string":
                found.append(client.get(name))
            elif kind == b"list":
                found.append(client.lrange(name, 0, -1))
            elif kind == b"hash":
                found.append(client.hgetall(name))
            elif kind == b"set":
                found.append(client.smembers(name))
            elif kind == b"zset":
                found.append(client.zrange(name, 0, -1))
    return repr(found)


def everything_in_postgres(url: str) -> str:
    """Return all rows of all tables and the statements in pg_stat_activity, as text."""
    connection = psycopg2.connect(url)
    found = []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        for (table,) in cursor.fetchall():
            cursor.execute(f"SELECT t::text FROM {table} AS t")
            found += [row for (row,) in cursor.fetchall()]
        cursor.execute("SELECT query FROM pg_stat_activity")
        found += [row or "" for (row,) in cursor.fetchall()]
    connection.close()
    return "\n".join(found)


def files_below(directory: Path) -> dict[str, str]:
    """Return all files by path, as stored on disk: including WAL and deleted rows."""
    return {
        str(path): path.read_bytes().decode("latin-1")
        for path in directory.rglob("*")
        if path.is_file()
    }
