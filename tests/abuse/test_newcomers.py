"""Crowds that register for trials or spend them at once, and keys whose scope is the API."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from urllib.parse import urlencode

import pytest

from promptly.models.states import KeyScope
from promptly.services.accounts import keys
from promptly.transactions import transaction
from tests.abuse.arena import VARIABLES, Arena
from tests.abuse.sockets import at_once, connect, head, read_all, status_of
from tests.blueprints.v1.client import Client, OpenStream, sim
from tests.plugins.stacks import MakeStack
from tests.support.books import wait_for
from tests.support.servers import VARIABLES as SERVER_VARIABLES
from tests.support.servers import make_settings

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]

TRIALS_PER_DOMAIN = 3
MAILS_PER_MAILBOX = 3
CROWD = 20
# Fewer than the arena lets a paying account run.
STREAMS_PER_TRIAL = 4
STREAMS_ASKED_FOR = 12

numbers = itertools.count()
addresses = (f"198.51.{high}.{low}" for high in range(256) for low in range(1, 255))


@pytest.fixture(scope="module")
def limited(make_stack: MakeStack) -> Iterator[Arena]:
    """An arena behind a proxy, with limits of trials."""
    limits = {
        "TRIALS_PER_DOMAIN_PER_DAY": TRIALS_PER_DOMAIN,
        "TRIAL_CONCURRENT_REQUESTS": STREAMS_PER_TRIAL,
        "TRUSTED_PROXY_HOPS": 1,
    }
    with make_stack("limited", **VARIABLES, **limits) as stack:
        llama = stack.simulated_llama(slots=64)
        yield Arena(stack, llama, stack.gateway(llama.url, workers=2))


def post(arena: Arena, path: str, headers: dict[str, str], **form: str) -> int | None:
    """Send a form on a connection of its own, and return the answer's status."""
    body = urlencode(form)
    sent = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": len(body)}
    request = head("POST", path, {**sent, "Connection": "close", **headers}) + body.encode()
    with connect(arena.port) as connection:
        connection.sendall(request)
        return status_of(read_all(connection))


def register(arena: Arena, emails: Iterator[str]) -> list[int | None]:
    """Register a crowd at once, each from an address of its own; return the statuses."""
    crowd = iter([(next(emails), next(addresses)) for _ in range(CROWD)])

    def send() -> int | None:
        email, address = next(crowd)
        return post(arena, "/register", {"X-Forwarded-For": address}, email=email)

    return at_once(CROWD, send)


def trials(arena: Arena, pattern: str) -> int:
    [row] = arena.stack.books.rows(
        "SELECT count(*) AS trials FROM balances JOIN users ON users.id = user_id"
        " WHERE email LIKE :pattern AND trial_tokens > 0",
        pattern=pattern,
    )
    return int(row["trials"])


def test_a_domain_that_takes_all_mail(limited: Arena) -> None:
    emails = (f"user{number}@catchall.example" for number in itertools.count())

    def attack() -> None:
        assert set(register(limited, emails)) == {200}

    limited.withstand(attack)
    assert trials(limited, "%@catchall.example") == TRIALS_PER_DOMAIN


@pytest.mark.exhaustive
def test_spellings_of_one_mailbox(limited: Arena) -> None:
    name = "abcdefghij"
    dotted = (f"{name[:at]}.{name[at:]}" for at in itertools.cycle(range(1, len(name))))
    domains = itertools.cycle(["gmail.com", "googlemail.com"])
    emails = (f"{local}+{n}@{next(domains)}" for n, local in enumerate(dotted))
    answered: list[int | None] = []
    limited.withstand(lambda: answered.extend(register(limited, emails)))
    assert answered.count(200) == MAILS_PER_MAILBOX
    assert answered.count(429) == 2 * CROWD - MAILS_PER_MAILBOX
    assert trials(limited, "%@gmail.com") + trials(limited, "%@googlemail.com") == 1


def open_stream(client: Client, tag: str) -> OpenStream:
    """Ask for a stream of several minutes; return once it runs or is refused."""
    stream = client.open(messages=sim(f"tokens=9999 delay_ms=20 tag={tag}"))
    return stream.read_until(b"\r\n\r\n")


@pytest.mark.parametrize("trials", [1, pytest.param(5, marks=pytest.mark.exhaustive)])
def test_more_streams_than_a_trial_may_run(limited: Arena, trials: int) -> None:
    accounts = [limited.trial_account(1_000_000) for _ in range(trials)]
    clients = [Client(limited.gateway.url, account.key) for account in accounts]

    def attack() -> None:
        tag = f"trial{next(numbers)}"
        turns = itertools.cycle(clients)
        count = trials * STREAMS_ASKED_FOR
        with ExitStack() as streams:
            opened = at_once(count, lambda: streams.enter_context(open_stream(next(turns), tag)))
            running = [each for each in opened if each.received.startswith(b"HTTP/1.1 200")]
            refused = [each for each in opened if each.received.startswith(b"HTTP/1.1 429")]
            assert len(running) + len(refused) == count
            assert all(b"\r\nretry-after: " in each.received.lower() for each in refused)
            held = [limited.stack.books.open_holds(account) for account in accounts]
            assert held == [STREAMS_PER_TRIAL] * trials
            for each in running:
                each.read_until(b'"content"')
            records = limited.llama.requests(tag)
            assert len(records) == len(running)
            assert all(record["ended_at"] is None for record in records)
        wait_for(lambda: not any(map(limited.stack.books.open_holds, accounts)), "their end")

    limited.withstand(attack)


def test_a_key_for_the_api_only(arena: Arena) -> None:
    books = arena.stack.books
    account = books.account()
    settings = make_settings()
    assert settings.key_pepper.reveal() == SERVER_VARIABLES["KEY_PEPPER"]
    with books.app.app_context(), transaction():
        _, key = keys.create(
            account.user_id, "build", settings.key_pepper, scope=KeyScope.INFERENCE
        )

    def attack() -> None:
        for path in ("/dashboard/keys", "/dashboard/sessions/end", "/dashboard/delete"):
            statuses = set(at_once(10, partial(post, arena, f"{path}?key={key}", {}, name="mine")))
            assert statuses <= {401, 403, 404, 405, 429}, path
        statuses = set(at_once(10, partial(post, arena, "/session", {}, key=key)))
        assert statuses <= {400, 401, 403, 429}

    arena.withstand(attack)
    [row] = books.rows(
        "SELECT count(*) AS keys FROM api_keys WHERE user_id = :id", id=account.user_id
    )
    assert row["keys"] == 2
    [row] = books.rows(
        "SELECT count(*) AS open FROM sessions WHERE user_id = :id", id=account.user_id
    )
    assert row["open"] == 0
