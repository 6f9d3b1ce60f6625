import time
import uuid

import pytest

from promptly.request_ids import new_request_id, parse_id, public_id, started_at_ms


def test_an_id_is_a_uuid_of_version_7_with_its_time() -> None:
    before = time.time_ns() // 1_000_000
    made = new_request_id()
    after = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= started_at_ms(made) <= after


def test_ids_are_unique_and_sort_by_time() -> None:
    ids = [new_request_id() for _ in range(10_000)]
    assert len(set(ids)) == 10_000
    assert sorted(map(started_at_ms, ids)) == [started_at_ms(made) for made in ids]


def test_the_public_form_leads_back() -> None:
    made = new_request_id()
    assert public_id(made) == f"req_{made.hex}"
    assert parse_id(public_id(made)) == made
    assert parse_id(made.hex) == made


@pytest.mark.parametrize(
    "text", ["", "req_", "x", "req_" + "g" * 32, "0" * 31, "0" * 33, "req_" * 9]
)
def test_texts_that_are_not_ids(text: str) -> None:
    assert parse_id(text) is None
