"""Slots and their prompts: the simulator does as a real llama-server does."""

import json
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.llama import SimulatedLlama
from sandbox.process import wait_until
from sandbox.real_llama import RealLlama
from tests.sandbox.llama.wire import RawStream, call, hello, post

pytestmark = pytest.mark.real_llama

Servers = tuple[str, str]
SLOTS = 3


@pytest.fixture(scope="module", params=[0, 64], ids=["plain", "cache-ram"])
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    """URLs of a simulated and a real server, fresh for these tests, with the same flags."""
    simulated = SimulatedLlama(slots=SLOTS, ctx=2048, cache_ram=request.param).start()
    genuine = RealLlama(
        tmp_path_factory.mktemp("real"),
        slots=SLOTS,
        ctx=2048,
        # Slow enough for a request to be still running when another names its slot.
        layers=16,
        arguments=("--cache-ram", str(request.param)),
    )
    genuine.start()
    yield simulated.url, genuine.url
    genuine.stop()
    simulated.stop()


def words(seed: int) -> str:
    choice = random.Random(seed)
    return " ".join(str(choice.randrange(10**6)) for _ in range(60))


def slots(url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(call(url, "GET", "/slots")[2])
    return found


ONE, TWO, THREE, FOUR = (words(seed) for seed in range(4))
HALF = ONE[: len(ONE) // 2] + words(5)[len(ONE) // 2 :]
# Each with its prompt, one after the other: prompts find slots, lose them and come back.
STEPS: list[tuple[str, dict[str, Any]]] = [
    (ONE, {}),
    (TWO, {}),
    (THREE, {}),
    (FOUR, {}),
    (ONE, {}),
    (ONE, {"id_slot": 0}),
    (ONE, {"id_slot": 1}),
    (ONE, {"id_slot": 1 + SLOTS}),
    (TWO, {"id_slot": 1}),
    (ONE, {"id_slot": 1}),
    (ONE, {"id_slot": 1, "cache_prompt": False}),
    (ONE, {"id_slot": 1, "cache_prompt": True}),
    (TWO, {"id_slot": 2, "cache_prompt": False}),
    (TWO, {"id_slot": 2}),
    (ONE + " and more", {"id_slot": -1}),
    (HALF, {}),
    (ONE, {}),
    (HALF, {"cache_prompt": False}),
]


def test_prompts_are_found_in_the_same_slots(servers: Servers) -> None:
    assert [list(slot) for slot in slots(servers[0])] == [list(slot) for slot in slots(servers[1])]
    for number, (prompt, fields) in enumerate(STEPS):
        found = [used(url, prompt, **fields) for url in servers]
        assert found[0] == found[1], number
        if not number:
            # Of a slot that was used, and of one that was not.
            for slot in (0, SLOTS - 1):
                simulated, genuine = (slots(url)[slot] for url in servers)
                assert set(simulated) == set(genuine)


def used(url: str, prompt: str, **fields: Any) -> tuple[int, float]:
    """Return the slot that a prompt was processed in, and the cached share of it, in tenths."""
    status, answer = post(url, "/v1/completions", prompt=prompt, max_tokens=1, **fields)
    assert status == 200
    timings = answer["timings"]
    newest = max(slots(url), key=lambda slot: int(slot.get("id_task", -1)))
    total = timings["cache_n"] + timings["prompt_n"]
    return newest["id"], round(timings["cache_n"] / total, 1)


@pytest.mark.parametrize("kind", ["simulated", "real"])
def test_a_busy_slot_that_is_named_is_waited_for(servers: Servers, kind: str) -> None:
    url = servers[kind == "real"]
    text = "[[sim tokens=1900 delay_ms=20]]"
    body = {"max_tokens": 1900, "ignore_eos": True, "id_slot": 1}
    raw = RawStream(url, messages=hello(text), **body)
    raw.read_until(b'"content":"')
    answers = []
    waiting = threading.Thread(
        target=lambda: answers.append(post(url, messages=hello(), max_tokens=1, id_slot=1)[0])
    )
    waiting.start()
    wait_until(lambda: b"requests_deferred 1" in call(url, "GET", "/metrics")[2], 10, "a wait")
    assert [slot["is_processing"] for slot in slots(url)] == [False, True, False]
    assert post(url, messages=hello(), max_tokens=1)[0] == 200
    assert not answers
    raw.close()
    waiting.join(20)
    assert answers == [200]
    assert not any(slot["is_processing"] for slot in slots(url))
