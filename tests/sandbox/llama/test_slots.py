"""Slots of the simulator: what each keeps, who used it, and how long a cut prompt occupies it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.llama import SimulatedLlama
from sandbox.process import wait_until
from tests.sandbox.llama.conftest import OpenStream
from tests.sandbox.llama.wire import RawStream, call, hello, post, sim, stream

LONG = "word " * 2000
PROGRESS = {"timings_per_token": True, "return_progress": True}


def slots(url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(call(url, "GET", "/slots")[2])
    return found


def timings(url: str, **body: Any) -> dict[str, Any]:
    found: dict[str, Any] = post(url, max_tokens=3, **body)[1]["timings"]
    return found


def test_a_conversation_that_goes_on_is_cached(llama: SimulatedLlama) -> None:
    messages = hello(LONG)
    first = post(llama.url, messages=messages, max_tokens=200)[1]
    messages += [first["choices"][0]["message"], *hello("And now?")]
    later = timings(llama.url, messages=messages)
    total = sum(first["usage"][name] for name in ("prompt_tokens", "completion_tokens"))
    assert later["cache_n"] == pytest.approx(total, rel=0.05)
    assert later["cache_n"] + later["prompt_n"] > total
    one, other = llama.requests()
    assert one["slot"] == other["slot"]
    assert other["cached_prompt_tokens"] == later["cache_n"]
    assert llama.totals()["cached_prompt_tokens"] == later["cache_n"]


def test_calls_of_tools_are_cached(llama: SimulatedLlama) -> None:
    tools = [{"type": "function", "function": {"name": "look"}}]
    messages = hello("[[sim tool=1]]")
    answer = post(llama.url, messages=messages, tools=tools)[1]
    message = answer["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "5"}
    later = timings(llama.url, messages=[*messages, message, result], tools=tools)
    assert later["cache_n"] > answer["usage"]["prompt_tokens"]


def test_the_same_prompt_has_its_last_token_processed(llama: SimulatedLlama) -> None:
    first, second = (timings(llama.url, messages=hello(LONG)) for _ in range(2))
    assert (first["cache_n"], second["prompt_n"]) == (0, 1)
    assert second["cache_n"] == first["prompt_n"] - 1


def test_without_cache_prompt_nothing_is_reused_but_kept(llama: SimulatedLlama) -> None:
    for _ in range(2):
        assert timings(llama.url, messages=hello(LONG), cache_prompt=False)["cache_n"] == 0
    assert timings(llama.url, messages=hello(LONG), cache_prompt=True)["prompt_n"] == 1


def test_whose_prompt_is_reused(llama: SimulatedLlama) -> None:
    post(llama.url, messages=sim("owner=a tag=1", LONG), id_slot=0)
    post(llama.url, messages=sim("owner=b tag=2", LONG), id_slot=0, cache_prompt=False)
    assert llama.totals()["foreign_reuse"] == 0
    post(llama.url, messages=sim("owner=b tag=3", LONG), id_slot=0)
    post(llama.url, messages=sim("owner=a tag=4", LONG), id_slot=0)
    found = [(record["owner"], record["reused_from"]) for record in llama.requests()]
    assert found == [("a", ""), ("b", ""), ("b", ""), ("a", "b")]
    assert llama.totals()["foreign_reuse"] == 1


def test_a_slot_that_is_named_while_it_is_busy(
    llama: SimulatedLlama, open_stream: OpenStream
) -> None:
    raw = open_stream("delay_ms=20 tokens=4000 tag=busy", id_slot=1)
    raw.read_until(b"content")
    waiting = open_stream("tokens=2 tag=waiting", id_slot=3)
    wait_until(lambda: llama.totals()["deferred"] == 1, 5, "a deferred request")
    assert [slot["is_processing"] for slot in slots(llama.url)] == [False, True]
    # Others pass by.
    assert post(llama.url, messages=sim("tag=other"), max_tokens=2)[0] == 200
    raw.close()
    waiting.read_until(b"[DONE]")
    used = {record["tag"]: record["slot"] for record in llama.requests()}
    assert used == {"busy": 1, "waiting": 1, "other": 0}
    assert llama.totals()["named_busy"] == 1


def test_requests_that_name_slots_hold_up_others(
    llama: SimulatedLlama, open_stream: OpenStream
) -> None:
    busy = [open_stream(f"delay_ms=20 tokens=4000 tag=busy{slot}", id_slot=slot) for slot in (0, 1)]
    for raw in busy:
        raw.read_until(b"content")
    waiting = []
    for directives, fields in (("tag=named", {"id_slot": 1}), ("tag=any", {})):
        waiting.append(open_stream(f"tokens=2 {directives}", **fields))
        wait_until(lambda: llama.totals()["deferred"] == len(waiting), 5, "a deferred request")
    # The first in the queue is asked, cannot use this slot, and nobody else is asked.
    busy[0].close()
    llama.wait_for_end("busy0")
    assert [slot["is_processing"] for slot in slots(llama.url)] == [False, True]
    assert llama.totals()["deferred"] == 2
    # Now it is the last in the queue, but goes first in the slot that it names.
    busy[1].close()
    for raw in waiting:
        raw.read_until(b"[DONE]")
    started = {record["tag"]: record["slot_at"] for record in llama.requests()}
    assert started["named"] < started["any"]
    record = llama.request("named")
    assert (record["named_slot"], record["named_busy"], record["slot"]) == (1, True, 1)
    record = llama.request("any")
    assert (record["named_slot"], record["named_busy"]) == (None, False)


def test_a_waiting_client_that_leaves_changes_no_slot(
    llama: SimulatedLlama, open_stream: OpenStream
) -> None:
    raw = open_stream("delay_ms=20 tokens=4000 tag=busy", id_slot=1)
    raw.read_until(b"content")
    waiting = open_stream("tag=waiting", id_slot=1)
    wait_until(lambda: llama.totals()["deferred"] == 1, 5, "a deferred request")
    waiting.close()
    assert llama.wait_for_end("waiting")["slot"] is None
    raw.close()
    llama.wait_for_end("busy")
    assert not any(slot["is_processing"] for slot in slots(llama.url))


@pytest.fixture(scope="module")
def slow() -> Iterator[SimulatedLlama]:
    """A server that processes 2,000 tokens of a prompt per second, 500 at a time."""
    server = SimulatedLlama(slots=1, prompt_speed=2000, prompt_batch=500).start()
    yield server
    server.stop()


def test_a_cut_prompt_occupies_its_slot_until_its_batch_ends(slow: SimulatedLlama) -> None:
    raw = RawStream(slow.url, messages=sim("tag=cut", LONG), return_progress=True)
    raw.read_until(b'"prompt_progress"')
    raw.close()
    record = slow.wait_for_end("cut")
    assert record["outcome"] == "client_closed"
    assert record["ended_at"] - record["slot_at"] >= 500 / 2000
    assert record["processed_prompt_tokens"] < record["prompt_tokens"]


def test_only_new_tokens_take_time(slow: SimulatedLlama) -> None:
    body: dict[str, Any] = {"messages": hello("word " * 600), "max_tokens": 2, **PROGRESS}
    first, second = (stream(slow.url, **body) for _ in range(2))
    steps = [[event for event in found if "prompt_progress" in event] for found in (first, second)]
    total = first[-2]["timings"]["prompt_n"]
    assert len(steps[0]) == 1 + -(-total // 500)
    assert steps[0][-1]["prompt_progress"]["time_ms"] >= total / 2000 * 1000 - 1
    assert len(steps[1]) == 2
    assert steps[1][0]["prompt_progress"]["cache"] == total - 1


def test_slots_may_be_hidden() -> None:
    server = SimulatedLlama(shows_slots=False).start()
    try:
        assert call(server.url, "GET", "/slots")[0] == 501
    finally:
        server.stop()
