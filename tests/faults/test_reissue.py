"""A reissue revokes the old key in every worker at once."""

import threading
import time
from functools import partial
from pathlib import Path

import pytest
import urllib3

from tests.support.books import wait_for
from tests.support.machines import KINDS
from tests.support.process_stack import ProcessStack, register, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

WORKERS = 4
CONNECTIONS = 24
ROUNDS = 3

# Times at which a request was sent and answered, and its status.
Knock = tuple[float, float, int]


@pytest.mark.parametrize("kind", KINDS)
def test_the_old_key_is_refused_everywhere_from_the_answer_on(
    kind: type[ProcessStack], tmp_path: Path
) -> None:
    with running(kind(tmp_path / "stack")) as stack:
        gateway = stack.site(workers=WORKERS)
        for number in range(ROUNDS):
            email = f"account{number}@example.com"
            account = stack.books.account(paid_tokens=1000)
            stack.books.rows(
                "UPDATE users SET email = :email WHERE id = :id", email=email, id=account.user_id
            )
            seen: list[Knock] = []
            over = threading.Event()

            knock = partial(_knock, f"{gateway.url}/v1/balance", account.headers, seen, over)
            threads = [threading.Thread(target=knock) for _ in range(CONNECTIONS)]
            for thread in threads:
                thread.start()
            wait_for(partial(_sent_since, seen, 0.0, 4 * CONNECTIONS), "answers before")
            registered_at = time.monotonic()
            assert register(gateway.url, email) == 200
            answered_at = time.monotonic()
            wait_for(partial(_sent_since, seen, answered_at, 8 * CONNECTIONS), "answers after")
            over.set()
            for thread in threads:
                thread.join()

            # In between, either is allowed: the key is revoked while the POST is in progress.
            before = {status for _, ended_at, status in seen if ended_at < registered_at}
            after = [status for sent_at, _, status in seen if sent_at > answered_at]
            assert before == {200}
            assert set(after) == {401}


def _knock(url: str, headers: dict[str, str], seen: list[Knock], over: threading.Event) -> None:
    """Send requests until `over`, on a persistent connection that stays with its worker."""
    with urllib3.PoolManager(maxsize=1, retries=False) as http:
        while not over.is_set():
            sent_at = time.monotonic()
            answer = http.request("GET", url, headers=headers)
            seen.append((sent_at, time.monotonic(), answer.status))


def _sent_since(seen: list[Knock], since: float, count: int) -> bool:
    return sum(sent_at > since for sent_at, _, _ in list(seen)) > count
