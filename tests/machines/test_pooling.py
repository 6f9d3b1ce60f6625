"""PgBouncer in transaction mode: nothing stays in a session, and PgBouncer itself may go away."""

import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from promptly.runtime.database import session_settings
from sandbox.process import wait_until
from tests.support.load import Load
from tests.support.machines import MARKS, Machines
from tests.support.market import Market
from tests.support.process_stack import ready, register, running, say, until
from tests.support.servers import make_settings

pytestmark = [*MARKS, pytest.mark.alone, pytest.mark.timeout(480)]

SHORT = "tokens=20 delay_ms=5"
LONG = "tokens=240 delay_ms=50"

# Settings that PgBouncer keeps for each client and sets itself.
PER_CLIENT = ("TimeZone", "application_name", "client_encoding", "DateStyle",
              "standard_conforming_strings")  # fmt: skip
SESSION = """
SELECT pg_backend_pid() AS pid,
       ARRAY(SELECT name FROM pg_settings
             WHERE source = 'session' AND name <> ALL(%(kept)s)) AS settings,
       ARRAY(SELECT name FROM pg_prepared_statements) AS prepared,
       ARRAY(SELECT name FROM pg_cursors WHERE is_holdable) AS cursors,
       ARRAY(SELECT pg_listening_channels()) AS channels,
       ARRAY(SELECT objid::text FROM pg_locks
             WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks,
       ARRAY(SELECT relname::text FROM pg_class
             WHERE relnamespace = pg_my_temp_schema()) AS temporary
"""
ROLE_SETTINGS = """
SELECT name, setting FROM pg_settings WHERE name = ANY(%(names)s) AND source = 'user'
"""


def sessions(url: str, count: int) -> dict[int, list[Any]]:
    """Return what is left in each of PgBouncer's sessions, by PostgreSQL's process id.

    Transactions that are open at the same time get different sessions, idle ones first.
    """
    found = {}
    with ExitStack() as open_transactions:
        for _ in range(count):
            connection = open_transactions.enter_context(closing(psycopg2.connect(url)))
            cursor = connection.cursor()
            cursor.execute(SESSION, {"kept": list(PER_CLIENT)})
            pid, *left = cursor.fetchone() or ()
            found[pid] = left
    return found


def test_nothing_stays_in_a_session(tmp_path: Path) -> None:
    with running(Machines(tmp_path / "stack")) as stack:
        market = Market(stack)
        fleet = market.gateway
        first = stack.machines[0].gateway
        assert first is not None
        # Everything that the product does: tasks, payments, mail, pages, requests, commands.
        market.wait_for_worker()
        account, customer = market.customer()
        for method in ("stripe", "btcpay"):
            assert customer.order(method).status_code == 303
            market.pay(method)
        assert register(fleet.url, "newcomer@example.com") == 200
        stack.mail.wait_for("newcomer@example.com", 60)
        with Load(12) as load:
            for number in range(24):
                load.start(fleet.port, account.key, SHORT, stream=number % 2 == 0)
            replies = load.finish()
        for path in ("/dashboard", "/dashboard/usage.csv", "/v1/balance"):
            answer = customer.session.get(fleet.url + path, headers=account.headers, timeout=30)
            assert answer.status_code == 200
        first.flask("db", "upgrade")
        first.flask("ledger", "verify")
        first.flask("usage", "roll-up")
        first.flask("payments", "reconcile")

        pids = stack.books.rows(
            "SELECT pid FROM pg_stat_activity WHERE usename = 'gateway' AND pid <> pg_backend_pid()"
        )
        found = sessions(stack.pgbouncer.url(), len(pids))
        assert {row["pid"] for row in pids} & found.keys()
        assert {pid: left for pid, left in found.items() if any(left)} == {}
        with closing(psycopg2.connect(stack.pgbouncer.url())) as connection:
            cursor = connection.cursor()
            wanted = session_settings(make_settings())
            cursor.execute(ROLE_SETTINGS, {"names": list(wanted)})
            assert dict(cursor.fetchall()) == wanted

        doctor = first.flask("doctor")
        assert "through a pooler" in doctor
        assert "did not reach PostgreSQL" not in doctor
        assert {reply.end for reply in replies} == {"done"}
        stack.check_charges(replies)
        stack.check_books()
        say(f"{len(found)} sessions examined, {len(pids)} of PgBouncer's before")


def test_the_doctor_notices_a_role_without_settings(tmp_path: Path) -> None:
    with running(Machines(tmp_path / "stack")) as stack:
        stack.site(workers=2)
        gateway = stack.machines[1].gateway
        assert gateway is not None
        stack.books.rows("ALTER ROLE gateway RESET ALL")
        # Its sessions have had the settings since they began.
        stack.pgbouncer.kill()
        stack.pgbouncer.start()
        doctor = gateway.flask("doctor")
        assert "did not reach PostgreSQL; run: ALTER ROLE gateway SET" in doctor
        assert "SET statement_timeout = '60s'" in doctor


@pytest.mark.parametrize("seconds_away", [0, 10])
def test_pgbouncer_is_killed_under_load(seconds_away: int, tmp_path: Path) -> None:
    with running(Machines(tmp_path / "stack")) as stack:
        stack.start_background()
        fleet = stack.site(workers=2)
        account = stack.books.account(paid_tokens=1_000_000)
        with Load(24) as load:
            streams = [load.start(fleet.port, account.key, LONG) for _ in range(8)]
            for number in range(6):
                load.repeat(fleet.port, account.key, SHORT, stream=number % 2 == 0)
            wait_until(lambda: all(reply.chunks > 60 for reply in streams), 60, "streams")
            stack.pgbouncer.kill()
            time.sleep(seconds_away)
            stack.pgbouncer.start()
            gateways = [machine.gateway for machine in stack.machines if machine.gateway]
            back = until(
                lambda: all(ready(gateway.url) == 200 for gateway in gateways), "/health/ready", 60
            )
            done = len(load.sent("done"))
            wait_until(lambda: len(load.sent("done")) > done + 20, 60, "requests again")
            replies = load.finish()

        until(lambda: stack.books.open_holds() == 0, "no open hold", 90)
        assert {reply.end for reply in streams} == {"done"}
        errors = load.sent("error")
        assert {(reply.status, reply.code) for reply in errors} <= {(503, "service_unavailable")}
        assert {reply.end for reply in replies} <= {"done", "error"}
        stack.check_charges(replies)
        stack.check_books()
        say(f"{len(replies)} requests, {len(errors)} times 503, ready after {back:.1f} s")
