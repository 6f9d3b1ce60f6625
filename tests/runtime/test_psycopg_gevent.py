"""psycopg2 under gevent, in a separate process because monkey patching cannot be undone."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from gevent import monkey
monkey.patch_all()
import gevent
import psycopg2
from promptly.runtime import psycopg_gevent
psycopg_gevent.install(1.0)

connect = lambda: {connect}

# Waits yield to each other: all begin before the first ends.
events = []
def sleep(connection):
    events.append("begin")
    connection.cursor().execute("SELECT pg_sleep(0.6)")
    events.append("end")
    connection.close()

connections = [connect() for _ in range(4)]
gevent.joinall([gevent.spawn(sleep, each) for each in connections], raise_error=True)
assert events == ["begin"] * 4 + ["end"] * 4, events

# A wait ends in time, and its connection is not used again.
connection = connect()
try:
    connection.cursor().execute("SELECT pg_sleep(30)")
except psycopg2.OperationalError as problem:
    assert "in time" in str(problem), problem
else:
    raise AssertionError("no end")
assert connection.closed

# One that is cut from outside is closed as well: its answer would be the next one's.
connection = connect()
waiting = gevent.spawn(connection.cursor().execute, "SELECT pg_sleep(30)")
gevent.sleep(0.2)
waiting.kill()
assert connection.closed

# A wrong statement leaves the connection as it is.
connection = connect()
connection.autocommit = True
try:
    connection.cursor().execute("SELECT nothing")
except psycopg2.ProgrammingError:
    pass
cursor = connection.cursor()
cursor.execute("SELECT 1")
assert cursor.fetchone() == (1,)

# A server that ends the session while nobody waits is noticed by the next statement.
ended, other = connect(), connect()
ended.autocommit = other.autocommit = True
other.cursor().execute("SELECT pg_terminate_backend(%s)", (ended.info.backend_pid,))
gevent.sleep(0.2)
try:
    ended.cursor().execute("SELECT 1")
except psycopg2.OperationalError:
    pass
else:
    raise AssertionError("still there")
assert ended.closed
# The next connection gets the number of its socket, and has nothing to do with it.
again = connect()
for _ in range(3):
    again.cursor().execute("SELECT 1")
again.close()
again.close()
print("good")
"""

PLAIN = "psycopg2.connect(dsn={url!r})"
REGISTERED = "psycopg_gevent.connect(1.0, dsn={url!r})"


@pytest.mark.parametrize("connect", [PLAIN, REGISTERED], ids=["plain", "registered"])
def test_waits_yield_end_in_time_and_leave_no_answer_behind(
    fresh_database: str, project: Path, connect: str
) -> None:
    url = fresh_database.replace("postgresql+psycopg2://", "postgresql://")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(connect=connect.format(url=url))],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert done.stdout == "good\n", done.stderr
