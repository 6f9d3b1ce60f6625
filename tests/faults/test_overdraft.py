"""Many concurrent requests on a balance for few: never below zero, and no token is lost."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.load import Reply, ask, new_tag
from tests.support.machines import KINDS
from tests.support.process_stack import ProcessStack, polled, running, say

pytestmark = [pytest.mark.alone, pytest.mark.timeout(360)]

REQUESTS = 200
ANSWER_TOKENS = 150
CREDIT = 7

BALANCE = """
SELECT paid_tokens, trial_tokens, held_paid, held_trial FROM balances WHERE user_id = %(user_id)s
"""
# The documented statement, with the account selected by id.
OPERATOR_CREDIT = f"""
UPDATE token_purchases SET paid_tokens = paid_tokens + {CREDIT}
WHERE user_id = (SELECT id FROM users WHERE id = %(user_id)s)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_200_requests_on_a_balance_for_ten(kind: type[ProcessStack], tmp_path: Path) -> None:
    with running(kind(tmp_path / "stack", llama={"slots": 256})) as stack:
        gateway = stack.site(workers=4)
        probe = stack.books.account(paid_tokens=10_000)
        directives = f"tokens={ANSWER_TOKENS} delay_ms=2"
        first = ask(gateway.port, probe.key, directives, stream=False)
        assert first.usage is not None
        cost, prompt = first.usage["total_tokens"], first.usage["prompt_tokens"]
        given = 10 * cost
        account = stack.books.account(paid_tokens=given)

        def insist(number: int) -> Reply:
            # Retry 429 as an SDK does, until the request is answered or finally refused.
            deadline = time.monotonic() + 90
            while True:
                reply = ask(
                    gateway.port,
                    account.key,
                    directives,
                    stream=number % 2 == 0,
                    reply=Reply(new_tag()),
                )
                refused.append(reply.status)
                if reply.status != 429:
                    return reply
                assert reply.code in {"tokens_reserved", "rate_limit_exceeded"}
                assert time.monotonic() < deadline
                time.sleep(0.3)

        refused: list[int] = []
        with (
            polled(stack.database_url, BALANCE, account.user_id) as balances,
            polled(stack.database_url, OPERATOR_CREDIT, account.user_id),
            ThreadPoolExecutor(REQUESTS) as pool,
        ):
            replies = list(pool.map(insist, range(REQUESTS)))

        # The operator's credits have stopped: spend those that came after the last refusal.
        while (last := ask(gateway.port, account.key, directives, stream=False)).status == 200:
            replies.append(last)
        assert (last.status, last.code) == (402, "insufficient_quota")

        admitted = [reply for reply in replies if reply.status == 200]
        assert {reply.status for reply in replies} == {200, 402}
        assert all(reply.end == "done" for reply in admitted)
        assert len(admitted) >= 10
        for paid, trial, held_paid, held_trial in balances:
            assert paid >= held_paid >= 0
            assert trial >= held_trial >= 0
        assert len(balances) > 50

        events = {f"req_{row['request_id'].hex}": row for row in stack.books.events(account)}
        assert set(events) == {reply.request_id for reply in admitted}
        for reply in admitted:
            event = events[reply.request_id]
            charged, uncharged = event["charged_tokens"], event["uncharged_tokens"]
            assert reply.usage is not None
            assert charged + uncharged == reply.usage["total_tokens"]
            # The last chunk within the balance may be a character of several tokens, or be
            # followed by upstream's end-of-sequence token, which counts too.
            assert uncharged == 0 or (uncharged <= 2 and event["balance_tokens"] == 0)

        [credits] = stack.books.rows(
            "SELECT count(*) AS number, coalesce(sum(paid_delta), 0) AS tokens"
            " FROM ledger_entries WHERE kind = 'operator_sql' AND user_id = :user_id",
            user_id=account.user_id,
        )
        assert credits["number"] > 20
        assert credits["tokens"] == credits["number"] * CREDIT
        balance = stack.books.balance(account)
        assert balance["paid_tokens"] == given + credits["tokens"] - sum(
            event["charged_tokens"] for event in events.values()
        )
        assert balance["reserved_tokens"] == 0
        assert balance["available_tokens"] < prompt + 1
        stack.check_books()
        say(
            f"{len(admitted)} admitted, {refused.count(429)} times 429, {refused.count(402)} 402,"
            f" {credits['number']} credits, {balance['available_tokens']} tokens left,"
            f" prompt {prompt}, {len(balances)} looks at the balance"
        )
