"""Counts per address, over processes that share them."""

import os

import pytest

from promptly.runtime.address_counts import ROWS, AddressCounts, row_of

ROW = 7


def test_a_limit_is_reached_and_left() -> None:
    counts = AddressCounts(1)
    assert [counts.enter(ROW, 2) for _ in range(3)] == [True, True, False]
    assert counts.enter(ROW + 1, 2)
    counts.leave(ROW)
    assert counts.enter(ROW, 2)
    assert (counts.total(ROW), counts.total(ROW + 1)) == (2, 1)


def test_processes_count_together_and_the_dead_no_longer() -> None:
    counts = AddressCounts(2)
    counts.use_free_column(set())
    counts.enter(ROW, 10)
    child = os.fork()
    if child == 0:
        counts.use_free_column({0})
        for _ in range(3):
            counts.enter(ROW, 10)
        # Killed, it leaves nothing.
        os._exit(0)
    os.waitpid(child, 0)
    assert counts.total(ROW) == 4
    assert not counts.enter(ROW, 4)
    # Its successor starts from zero.
    assert counts.use_free_column({0}) == 1
    assert counts.total(ROW) == 1


def test_a_worker_without_a_column_does_not_count() -> None:
    counts = AddressCounts(1)
    assert counts.use_free_column({0}) is None
    assert counts.enter(ROW, 1) and counts.enter(ROW, 1)
    counts.leave(ROW)
    assert counts.total(ROW) == 0


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "100.64.0.1", "127.0.0.1", "192.168.1.1", "::1", "fe80::1%eth0", "fd00::1"],
)
def test_private_addresses_are_not_counted(address: str) -> None:
    assert row_of(address) is None
    assert row_of(f"::ffff:{address}" if "." in address else address) is None


def test_addresses_have_rows() -> None:
    row = row_of("2001:db8:1:2::1")
    assert row is not None and 0 <= row < ROWS
    # The same /64, and another one.
    assert row == row_of("2001:db8:1:2:ffff::") != row_of("2001:db8:1:3::1")
    assert row_of("198.51.100.7") == row_of("::ffff:198.51.100.7") != row_of("198.51.100.8")
    # No address can leave the count by being unreadable.
    assert row_of("unknown") == row_of("_hidden") is not None
