"""Deletion of a streaming account: upstream stops, the client gets an error, all is settled."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from promptly.services import account_deletion
from promptly.settings import current_settings
from promptly.transactions import transaction
from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import Client, sim
from tests.support.books import Account, BooksReader, wait_for
from tests.support.servers import Gateway

tags = (f"gone{number}" for number in itertools.count())

NAMING = ("api_keys", "balances", "ledger_entries", "usage_events", "usage_rollups", "holds")


def rows_of(books: BooksReader, account: Account) -> dict[str, int]:
    counts = {}
    for table in NAMING:
        [row] = books.rows(
            f"SELECT count(*) AS n FROM {table} WHERE user_id = :id", id=account.user_id
        )
        counts[table] = row["n"]
    return {table: count for table, count in counts.items() if count}


def delete(books: BooksReader, account: Account) -> bool:
    with books.app.app_context():
        return account_deletion.delete_account(account.user_id, current_settings())


def logged(gateway: Gateway, account: Account) -> list[dict[str, Any]]:
    """Return the log lines that record the end of the account's requests."""
    lines = [json.loads(x) for x in gateway.log.read_text().splitlines() if x.startswith("{")]
    return [x for x in lines if x.get("user_id") == account.user_id and "outcome" in x]


def test_the_last_counts_are_settled_before_it_goes(
    client: Client, llama: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    tag = next(tags)
    with client.open(messages=sim(f"tokens=100000 delay_ms=5 tag={tag}")) as stream:
        stream.read_until(b"content")
        with books.app.app_context(), transaction():
            account_deletion.close(account.user_id, current_settings())
        record = llama.wait_for_end(tag, 10.0)
        [event] = books.wait_for_events(account, 1)
        stream.read_until(b"\r\n0\r\n\r\n")
    assert event["outcome"] == "account_deleted"
    assert event["completion_tokens"] == record["completion_tokens"] > 0
    assert event["prompt_tokens"] == record["processed_prompt_tokens"]
    assert event["charged_tokens"] == event["prompt_tokens"] + event["completion_tokens"]
    last = stream.received.rpartition(b"data: ")[2]
    assert b"invalid_api_key" in last and b"deleted" in last
    assert b"[DONE]" not in stream.received
    assert client.chat().status == 401
    assert delete(books, account)
    assert rows_of(books, account) == {}
    assert books.differences() == []


def test_several_requests_in_every_state_end_with_it(
    gateway: Gateway, client: Client, llama: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    tag = next(tags)
    slow = f"delay_ms=5 tokens=100000 tag={tag}"
    with ThreadPoolExecutor(3) as pool:
        whole = pool.submit(client.chat, messages=sim(slow))
        streamed = pool.submit(client.stream, messages=sim(slow))
        prefilling = pool.submit(
            client.stream,
            messages=sim(f"prefill_ms=60000 progress=100 tag={tag}", text="word " * 2000),
        )
        wait_for(lambda: len(llama.requests(tag)) == 3, "all three upstream")
        assert delete(books, account)
        answers = [whole.result(20), streamed.result(20), prefilling.result(20)]
    assert answers[0].status == 401
    assert all(b"invalid_api_key" in answer.body for answer in answers)
    wait_for(lambda: llama.totals()["processing"] == 0, "all slots free")
    wait_for(lambda: len(logged(gateway, account)) == 3, "all three in the log")
    lines = logged(gateway, account)
    assert {line["outcome"] for line in lines} == {"account_deleted"}
    # Charged before the account was deleted: a settlement without an account has no charge.
    assert all(line["charged_tokens"] is not None for line in lines)
    assert rows_of(books, account) == {}
    assert books.differences() == []


def test_a_killed_gateways_leftovers_are_deleted_too(
    make_gateway: Any, llama: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    gateway = make_gateway(llama.url)
    tag = next(tags)
    with Client(gateway.url, account.key).open(
        messages=sim(f"tokens=100000 delay_ms=5 tag={tag}")
    ) as stream:
        stream.read_until(b"content")
        gateway.kill()
    assert books.open_holds(account) == 1
    assert delete(books, account)
    assert rows_of(books, account) == {}
