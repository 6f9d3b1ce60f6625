"""An empty account that counts, and guesses of keys."""

import http.client
from functools import partial

import pytest

from tests.abuse.arena import MIB, Arena
from tests.abuse.sockets import at_once, head, pour, status_of

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/input_tokens",
        pytest.param("/v1/responses/input_tokens", marks=pytest.mark.exhaustive),
        pytest.param("/v1/messages/count_tokens", marks=pytest.mark.exhaustive),
    ],
)
def test_counting_for_an_empty_account(arena: Arena, path: str) -> None:
    key = arena.stack.books.account(paid_tokens=0).key
    text = "a " * (15 * MIB // 2)
    body = f'{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}'.encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Length": len(body)}
    request = head("POST", path, {**headers, "Connection": "close"})

    def attack() -> None:
        answers = at_once(40, partial(pour, arena.port, request, [body], 60))
        assert {status_of(answer) for answer in answers} <= {402, 429}

    arena.withstand(attack)


def guess_admin_keys(port: int) -> list[int]:
    """Send twenty wrong keys, and return the statuses."""
    found = []
    for number in range(20):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", f"/admin?key=wrong{number}")
        found.append(connection.getresponse().status)
        connection.close()
    return found


def test_guesses_of_admin_keys(arena: Arena) -> None:
    def attack() -> None:
        answers = at_once(30, partial(guess_admin_keys, arena.port))
        assert {status for each in answers for status in each} <= {403, 429}

    arena.withstand(attack)
