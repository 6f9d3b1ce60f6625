"""Forms that are never finished."""

from functools import partial

import pytest
import urllib3

from tests.abuse.arena import Arena
from tests.abuse.sockets import head, hold_open

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]

SOCKETS = 60
PAGES = 20


def unfinished(arena: Arena, target: str, honest_key: str) -> None:
    """Leave forms unfinished while pages are opened that read the database."""
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": 100}
    held = hold_open(arena.port, [head("POST", target, headers) + b"name=a"] * SOCKETS)
    try:
        for _ in range(PAGES):
            answer = urllib3.request(
                "GET",
                f"{arena.gateway.url}/dashboard",
                fields={"key": honest_key},
                retries=False,
                timeout=30.0,
            )
            assert answer.status == 200
    finally:
        for connection in held:
            connection.close()


@pytest.mark.parametrize(
    "target",
    [
        "/dashboard/keys?key={key}",
        pytest.param("/register", marks=pytest.mark.exhaustive),
        pytest.param("/stripe/webhook", marks=pytest.mark.exhaustive),
        pytest.param("/admin/adjust", marks=pytest.mark.exhaustive),
        pytest.param("/checkout?key={key}", marks=pytest.mark.exhaustive),
    ],
)
def test_forms_that_are_never_finished(arena: Arena, target: str) -> None:
    key = arena.trial_account().key
    honest_key = arena.stack.books.account().key
    arena.withstand(partial(unfinished, arena, target.format(key=key), honest_key))
