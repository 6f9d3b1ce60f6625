"""Comparison of the books after an upgrade with all that clients, providers and mailboxes saw."""

from collections import Counter
from typing import Any

from tests.support.process_stack import ProcessStack
from tests.upgrade.customers import Customer
from tests.upgrade.traffic import Call


def check_charges(stack: ProcessStack, calls: list[Call]) -> dict[int, int]:
    """Assert that each call was charged the simulator's count, once; return the sums by account.

    Nothing else was charged, and counts cost nothing.
    """
    records, events = stack.records(), stack.events()
    charged: Counter[int] = Counter()
    for made in calls:
        event = events.pop(made.request_id, None)
        if not made.is_charged:
            assert event is None and made.tag not in records, made
            continue
        record = records[made.tag]
        counted = record["prompt_tokens"] + record["completion_tokens"]
        assert event is not None, f"never charged: {made}"
        assert (event["user_id"], event["charged_tokens"]) == (made.user_id, counted), made
        charged[made.user_id] += counted
    assert not events, f"charged without a request: {list(events.values())[:3]}"
    return dict(charged)


def check_balances(
    stack: ProcessStack, customers: list[Customer], charged: dict[int, int], credits: dict[int, int]
) -> None:
    """Assert that each balance is that of before, less the charges, plus the purchases."""
    rows = stack.books.rows("SELECT user_id, paid_tokens + trial_tokens AS tokens FROM balances")
    found = {row["user_id"]: int(row["tokens"]) for row in rows}
    for customer in customers:
        user_id = customer.user_id
        expected = customer.tokens - charged.get(user_id, 0) + credits.get(user_id, 0)
        assert found[user_id] == expected, customer


def check_payments(stack: ProcessStack, paid: int) -> None:
    """Assert that each paid order was credited once, and that no event waits or failed."""
    orders = stack.books.rows("SELECT state FROM orders")
    assert [row["state"] for row in orders] == ["paid"] * paid
    credits = stack.books.rows("SELECT 1 FROM ledger_entries WHERE kind = 'purchase'")
    assert len(credits) == paid
    states = {row["state"] for row in stack.books.rows("SELECT DISTINCT state FROM webhook_events")}
    assert states <= {"handled", "ignored"}, states


def check_mails(stack: ProcessStack) -> Counter[str]:
    """Assert that each mail was sent and arrived once; return their numbers by kind."""
    rows: list[dict[str, Any]] = stack.books.rows("SELECT id, kind, state FROM outbox")
    unsent = [row for row in rows if row["state"] != "sent"]
    assert not unsent, unsent
    arrived = Counter(str(message["Message-ID"]) for message in stack.mail.messages())
    assert len(arrived) >= len(rows) and set(arrived.values()) == {1}, arrived
    return Counter(row["kind"] for row in rows)
