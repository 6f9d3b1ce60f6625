"""Charges of requests whose clients never learned their ids."""

from prove.evidence import Charge, Count
from prove.load import Request
from prove.matching import match

COUNTED = [Count(10, 5, "finished")]


def request(tag: str, started_at: float, request_id: str = "", key_id: int = 1) -> Request:
    return Request(tag, 1, key_id, started_at, started_at + 1.0, request_id=request_id)


def charge(request_id: str, started_at: float, key_id: int = 1, user_id: int = 1) -> Charge:
    return Charge(request_id, started_at, user_id, key_id, "recovered", 15, 0)


def test_a_known_id_decides() -> None:
    requests = [request("a", 10.0, "req_a"), request("b", 20.0, "req_b")]
    charges = [charge("req_b", 20.1), charge("req_a", 10.1)]
    matched, unmatched = match(requests, charges, {})
    assert {tag: each[0].request_id for tag, each in matched.items()} == {
        "a": "req_a",
        "b": "req_b",
    }
    assert unmatched == []


def test_without_an_id_the_last_counted_request_of_the_key_before_it() -> None:
    requests = [request("a", 10.0), request("b", 20.0), request("c", 30.0), request("d", 10.0)]
    requests[3].key_id = 2
    counts = dict.fromkeys("acd", COUNTED)
    matched, unmatched = match(requests, [charge("req_1", 20.5), charge("req_2", 30.5)], counts)
    assert {tag: each[0].request_id for tag, each in matched.items()} == {
        "a": "req_1",
        "c": "req_2",
    }
    assert unmatched == []


def test_one_request_takes_one_nameless_charge() -> None:
    charges = [charge("req_1", 10.5), charge("req_2", 10.6)]
    matched, unmatched = match([request("a", 10.0)], charges, {"a": COUNTED})
    assert [each.request_id for each in matched["a"]] == ["req_1"]
    assert [each.request_id for each in unmatched] == ["req_2"]


def test_a_charge_to_another_account_belongs_to_no_request() -> None:
    requests = [request("a", 10.0, "req_a")]
    _, unmatched = match(requests, [charge("req_a", 10.1, user_id=2)], {})
    assert len(unmatched) == 1


def test_two_charges_of_one_id_are_both_of_its_request() -> None:
    matched, _ = match([request("a", 10.0, "req_a")], [charge("req_a", 10.1)] * 2, {})
    assert len(matched["a"]) == 2
