"""The selection of llama-servers that can take a request."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from promptly.errors import UnsupportedEndpoint, UpstreamUnavailable
from promptly.gateway import probes
from promptly.gateway import upstreams as module
from promptly.gateway.chat_request import ChatRequest
from promptly.gateway.probes import read_properties
from promptly.gateway.upstream import EMBEDDINGS_PATH
from promptly.gateway.upstreams import UpstreamPool
from promptly.services import drains
from promptly.services.audit import Operator
from promptly.transactions import transaction
from sandbox.llama import SimulatedLlama
from tests.gateway.conftest import MakeLlama
from tests.support.books import wait_for
from tests.support.servers import make_settings


def pool_of(*servers: SimulatedLlama, key: str = "") -> UpstreamPool:
    return UpstreamPool(
        make_settings(
            llama_base_url=tuple(server.url for server in servers),
            llama_api_key=type(make_settings().llama_api_key)(key),
        )
    )


def names(pool: UpstreamPool) -> list[str]:
    return [upstream.name for upstream in pool.ready()]


def test_properties_of_an_upstream(make_llama: MakeLlama) -> None:
    llama = make_llama(slots=3, ctx=2048, alias="b-model,a-model")
    [upstream] = pool_of(llama).ready()
    assert (upstream.name, upstream.slots, upstream.n_ctx) == (llama.url, 3, 2048)
    assert upstream.model in ("a-model", "b-model")


def test_only_ready_ones_are_named(make_llama: MakeLlama) -> None:
    good, loading, gone = make_llama(), make_llama(), make_llama()
    loading.set_faults(loading=True)
    gone.kill()
    assert names(pool_of(loading, good, gone)) == [good.url]


def test_a_key_that_upstream_wants(make_llama: MakeLlama) -> None:
    llama = make_llama(api_key="secret")
    assert names(pool_of(llama, key="secret")) == [llama.url]
    assert names(pool_of(llama, key="wrong")) == []


def test_a_failed_one_is_left_out_until_it_answers(
    make_llama: MakeLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "PROBE_SECONDS", 0.1)
    first, second = make_llama(), make_llama()
    pool = pool_of(first, second)
    assert names(pool) == [first.url, second.url]
    first.kill()
    pool.failed(pool.upstreams[0])
    assert names(pool) == [second.url]
    first.start()
    wait_for(lambda: names(pool) == [first.url, second.url], "the first again")


def test_a_doubted_one_is_left_out_only_if_it_does_not_answer(make_llama: MakeLlama) -> None:
    first, second = make_llama(), make_llama()
    pool = pool_of(first, second)
    assert names(pool) == [first.url, second.url]
    assert pool.doubt(pool.upstreams[0])
    assert names(pool) == [first.url, second.url]
    first.kill()
    assert not pool.doubt(pool.upstreams[0])
    assert names(pool) == [second.url]


def test_when_all_failed_the_next_request_looks_again(
    make_llama: MakeLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama = make_llama()
    pool = pool_of(llama)
    [upstream] = pool.ready()
    # Frozen time: after one request's failure the next request probes again at once.
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pool.failed(upstream)
    assert pool.ready() == [upstream]
    # After a failed probe the upstream is left alone for a second, whatever else fails.
    llama.set_faults(loading=True)
    pool.failed(upstream)
    assert pool.ready() == []
    llama.clear()
    pool.failed(upstream)
    assert pool.ready() == []
    now += 1.1
    assert pool.ready() == [upstream]


def test_a_first_probe_is_followed_by_no_second(make_llama: MakeLlama) -> None:
    pool = pool_of(make_llama())
    [upstream] = pool.ready()
    # A probe in the background would have set a later time.
    probed_at = upstream.probed_at
    assert pool.ready() == [upstream]
    upstream.probing.run(lambda: None)
    assert upstream.probed_at == probed_at


def test_the_last_seen_state_is_returned_without_waiting(
    make_llama: MakeLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "PROBE_SECONDS", 0.1)
    llama = make_llama()
    pool = pool_of(llama)
    # Only the first call probes synchronously; later ones trigger a probe in the background.
    assert [up.name for up in pool.seen()] == [llama.url]
    llama.kill()
    wait_for(lambda: pool.seen() == [], "it is away")
    llama.start()
    wait_for(lambda: [up.name for up in pool.seen()] == [llama.url], "it is back")


def test_a_server_gets_no_request_that_it_cannot_serve(
    make_llama: MakeLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_llama(), make_llama()
    pool = pool_of(first, second)
    assert len(pool.ready(EMBEDDINGS_PATH)) == 2
    pool.lacks(pool.upstreams[0], EMBEDDINGS_PATH)
    assert [up.name for up in pool.ready(EMBEDDINGS_PATH)] == [second.url]
    assert names(pool) == [first.url, second.url]
    # The second server may serve it again once it is back.
    second.kill()
    pool.failed(pool.upstreams[1])
    assert pool.ready(EMBEDDINGS_PATH) == []
    assert isinstance(pool.refusal(EMBEDDINGS_PATH), UpstreamUnavailable)
    pool.lacks(pool.upstreams[1], EMBEDDINGS_PATH)
    assert isinstance(pool.refusal(EMBEDDINGS_PATH), UnsupportedEndpoint)
    later = time.monotonic() + module.LACKING_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert pool.upstreams[0].serves(EMBEDDINGS_PATH)


@pytest.mark.parametrize("options", [{}, {"alias": "other"}, {"slots": 1}, {"ctx": 512}])
def test_another_server_may_serve_what_the_one_before_lacked(
    make_llama: MakeLlama, options: dict[str, Any]
) -> None:
    llama = make_llama()
    pool = pool_of(llama)
    [upstream] = pool.ready()
    pool.lacks(upstream, EMBEDDINGS_PATH)
    pool.probe(upstream)
    assert not upstream.serves(EMBEDDINGS_PATH)
    llama.stop()
    if not options:
        # A restart of an identical server is noticed only if its absence was.
        pool.failed(upstream)
    other = SimulatedLlama(port=llama.port, **options).start()
    try:
        assert pool.probe(upstream)
        assert upstream.serves(EMBEDDINGS_PATH)
    finally:
        other.stop()


def test_a_server_is_probed_before_the_first_request_that_it_could_take(
    make_llama: MakeLlama,
) -> None:
    chats, embeds = make_llama(), make_llama(embeddings=True)
    pool = UpstreamPool(
        make_settings(llama_base_url=(chats.url,), llama_embeddings_base_url=(embeds.url,))
    )
    # Chats probe only their own servers.
    assert [up.name for up in pool.ready(ChatRequest.path)] == [chats.url]
    assert {up.name for up in pool.ready(EMBEDDINGS_PATH)} == {chats.url, embeds.url}


def test_a_server_for_embeddings_gets_nothing_else(make_llama: MakeLlama) -> None:
    chats, embeds = make_llama(), make_llama(embeddings=True)
    pool = UpstreamPool(
        make_settings(llama_base_url=(chats.url,), llama_embeddings_base_url=(embeds.url,))
    )
    assert names(pool) == [chats.url, embeds.url]
    assert [up.name for up in pool.ready(ChatRequest.path)] == [chats.url]
    assert len(pool.ready(EMBEDDINGS_PATH)) == 2
    chats.kill()
    pool.failed(pool.upstreams[0])
    assert pool.ready(ChatRequest.path) == []
    assert isinstance(pool.refusal(ChatRequest.path), UpstreamUnavailable)


def test_a_change_of_slots_is_noticed(
    make_llama: MakeLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "PROBE_SECONDS", 0.1)
    llama = make_llama(slots=2)
    pool = pool_of(llama)
    assert pool.ready()[0].slots == 2
    llama.stop()
    other = SimulatedLlama(port=llama.port, slots=5).start()
    try:
        wait_for(lambda: [up.slots for up in pool.ready()] == [5], "five slots")
    finally:
        other.stop()


@pytest.mark.parametrize(
    "props",
    [
        {},
        [],
        None,
        {"total_slots": 4},
        {"default_generation_settings": {"n_ctx": "x"}, "total_slots": 4},
        {"default_generation_settings": {"n_ctx": 1}, "total_slots": 0},
        {"default_generation_settings": {"n_ctx": -1}, "total_slots": 4},
        {"default_generation_settings": {"n_ctx": float("inf")}, "total_slots": 4},
    ],
)
def test_props_that_make_no_sense(props: object) -> None:
    pool = UpstreamPool(make_settings())
    assert not read_properties(pool.upstreams[0], props)


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_slow_server_does_not_delay_the_probes_of_others(
    make_llama: MakeLlama, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "PROBE_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(probes, "PROBE_SECONDS", 0.05)
    good, other = make_llama(), make_llama()
    pool = UpstreamPool(make_settings(llama_base_url=(silent, good.url, other.url)))
    assert names(pool) == [good.url, other.url]
    # From now on a probe of the silent one takes longer than this test waits.
    monkeypatch.setattr(probes, "PROBE_TIMEOUT_SECONDS", 60.0)
    slow = pool.upstreams[0]
    wait_for(lambda: bool(pool.ready()) and slow.probing.is_running, "its next probe")
    good.kill()
    wait_for(lambda: names(pool) == [other.url], "one is away")
    good.start()
    wait_for(lambda: names(pool) == [good.url, other.url], "it is back")
    assert slow.probing.is_running


def test_a_dead_server_is_probed_ever_less_often(make_llama: MakeLlama) -> None:
    llama = make_llama()
    pool = pool_of(llama)
    [upstream] = pool.ready()
    assert upstream.pause == probes.PROBE_SECONDS
    llama.kill()
    pauses = []
    for _ in range(6):
        assert not pool.probe(upstream)
        pauses.append(upstream.pause)
    assert pauses[0] < 2 * probes.PROBE_SECONDS < pauses[3] <= pauses[-1] + 15 <= 75
    assert "no answer" in upstream.problem
    llama.start()
    assert pool.probe(upstream)
    assert (upstream.pause, upstream.failures, upstream.problem) == (probes.PROBE_SECONDS, 0, "")


def test_a_server_that_loads_its_model_is_probed_soon(make_llama: MakeLlama) -> None:
    llama = make_llama()
    llama.set_faults(loading=True)
    pool = pool_of(llama)
    [upstream] = pool.upstreams
    for _ in range(4):
        assert not pool.probe(upstream)
        assert upstream.pause < probes.PROBE_SECONDS
    assert upstream.problem == "loading its model"


def drain(app: Flask, url: str) -> None:
    with app.app_context(), transaction():
        drains.drain(url, Operator("cli:ada"))


def resume(app: Flask, url: str) -> None:
    with app.app_context(), transaction():
        drains.resume(url, Operator("cli:ada"))


def test_a_drained_server_gets_no_request(app: Flask, make_llama: MakeLlama) -> None:
    first, second = make_llama(embeddings=True), make_llama(embeddings=True)
    pool = UpstreamPool(
        make_settings(llama_base_url=(first.url, second.url)),
        app.extensions["hot_path_database"],
    )
    assert names(pool) == [first.url, second.url]
    drain(app, first.url)
    wait_for(lambda: names(pool) == [second.url], "the first is drained")
    assert [up.name for up in pool.ready(EMBEDDINGS_PATH)] == [second.url]
    # It answers as before.
    assert {up.name for up in pool.seen()} == {first.url, second.url}
    drain(app, second.url)
    wait_for(lambda: names(pool) == [], "both are drained")
    refusal = pool.refusal(ChatRequest.path)
    assert isinstance(refusal, UpstreamUnavailable) and "maintenance" in refusal.message
    resume(app, first.url)
    wait_for(lambda: names(pool) == [first.url], "the first is resumed")


def test_a_resumed_server_is_probed_at_once(app: Flask, make_llama: MakeLlama) -> None:
    first, second = make_llama(), make_llama()
    drain(app, first.url)
    pool = UpstreamPool(
        make_settings(llama_base_url=(first.url, second.url)),
        app.extensions["hot_path_database"],
    )
    first.kill()
    assert names(pool) == [second.url]
    upstream = pool.upstreams[0]
    # As after it has been away for long.
    upstream.failures, upstream.pause = 10, 60.0
    first.start()
    resume(app, first.url)
    wait_for(lambda: names(pool) == [first.url, second.url], "it is in service again")
