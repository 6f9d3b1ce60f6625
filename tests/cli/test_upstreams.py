"""flask upstreams: the list, draining and resuming."""

import threading
from collections.abc import Iterator

import pytest
from flask import Flask

from promptly.cli import upstreams as module
from promptly.gateway import Gateway
from promptly.services import drains
from sandbox.llama import SimulatedLlama
from tests.cli.test_commands import answer, flask
from tests.conftest import AppFactory
from tests.support.books import wait_for


@pytest.fixture
def llama() -> Iterator[SimulatedLlama]:
    server = SimulatedLlama(slots=2, ctx=4096, alias="tiny").start()
    yield server
    server.stop()


@pytest.fixture
def served(app_factory: AppFactory, llama: SimulatedLlama) -> Flask:
    """An application with one server that answers, and one that does not."""
    return app_factory(llama_base_url=(llama.url, "http://127.0.0.1:1"))


@pytest.fixture
def gateway(served: Flask) -> Gateway:
    found: Gateway = served.extensions["gateway"]
    return found


def test_list(served: Flask, gateway: Gateway, llama: SimulatedLlama) -> None:
    slot_request = gateway.slots.request(1)
    assert slot_request.changed.wait(10)
    first, second = answer(served, "upstreams", "list")
    assert first == {
        "url": llama.url,
        "model": "tiny",
        "state": "ready",
        "slots_used": 1,
        "slots_total": 2,
        "n_ctx": 4096,
        "probe": "ok",
        "drained_since": None,
        "drained_by": None,
        "note": None,
    }
    assert (second["state"], second["slots_used"], second["n_ctx"]) == ("down", 0, None)
    assert second["probe"].startswith("no answer")
    llama.set_faults(loading=True)
    table = flask(served, "upstreams", "list").stdout
    assert "loading its model" in table and "drained" not in table
    gateway.slots.release(slot_request)


def test_list_without_redis(app_factory: AppFactory, llama: SimulatedLlama) -> None:
    app = app_factory(llama_base_url=(llama.url,), redis_url="redis://127.0.0.1:1/0")
    [row] = answer(app, "upstreams", "list")
    assert (row["state"], row["slots_used"], row["slots_total"]) == ("ready", None, 2)


def test_drain_and_resume(served: Flask, llama: SimulatedLlama) -> None:
    netloc = llama.url.removeprefix("http://")
    drained = answer(served, "upstreams", "drain", netloc, "--note", "new kernel")
    assert drained == {"url": llama.url, "drained": True, "changed": True}
    assert answer(served, "upstreams", "drain", llama.url)["changed"] is False
    [row, _] = answer(served, "upstreams", "list")
    assert (row["state"], row["note"]) == ("drained", "new kernel")
    assert row["drained_by"].startswith("cli")
    assert "new kernel" in flask(served, "upstreams", "list").stdout
    resumed = answer(served, "upstreams", "resume", llama.url)
    assert resumed == {"url": llama.url, "drained": False, "changed": True}
    assert answer(served, "upstreams", "resume", llama.url)["changed"] is False
    entries = answer(served, "audit", "list")
    assert [(row["action"], row["subject"]) for row in entries] == [
        ("upstream.resume", llama.url),
        ("upstream.drain", llama.url),
    ]


def test_a_server_that_is_not_configured(served: Flask, app_factory: AppFactory) -> None:
    for command in ("drain", "resume"):
        refused = flask(served, "upstreams", command, "http://10.0.0.1:8080", code=1)
        assert "is not a configured model server: http://127.0.0.1" in refused.stderr
        ambiguous = flask(served, "upstreams", command, "http://127.0.0.1", code=1)
        assert "fits several model servers" in ambiguous.stderr
    # One that has been taken out of the settings while drained can still be resumed.
    flask(served, "upstreams", "drain", "127.0.0.1:1")
    later = app_factory(llama_base_url=())
    assert answer(later, "upstreams", "resume", "127.0.0.1:1")["changed"] is True
    with later.app_context():
        assert drains.drained() == {}


def test_waiting_until_nothing_runs(
    served: Flask, gateway: Gateway, llama: SimulatedLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KNOWN_SECONDS", 0.2)
    slot_request = gateway.slots.request(1)
    assert slot_request.changed.wait(10)
    late = answer(served, "upstreams", "drain", llama.url, "--wait", "1", code=1)
    assert late == {"url": llama.url, "drained": True, "changed": True, "running": 1}
    refused = flask(served, "upstreams", "drain", llama.url, "--wait", "1", code=1)
    assert "1 request running" in refused.stderr and "Not idle after 1 s: 1 run." in refused.stderr
    found: list[dict[str, object]] = []
    waiting = threading.Thread(
        target=lambda: found.append(answer(served, "upstreams", "drain", llama.url, "--wait"))
    )
    waiting.start()
    wait_for(lambda: waiting.is_alive(), "the command waits")
    gateway.slots.release(slot_request)
    waiting.join(30)
    assert found == [{"url": llama.url, "drained": True, "changed": False, "running": 0}]


def test_a_request_that_only_the_server_knows(
    served: Flask, gateway: Gateway, llama: SimulatedLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KNOWN_SECONDS", 0.2)
    [upstream, _] = gateway.pool.upstreams
    body = b'{"prompt":"[[sim tokens=9000 delay_ms=20]]","max_tokens":9000,"stream":true}'
    stream = upstream.client.stream("/v1/completions", body)
    wait_for(lambda: llama.totals()["processing"] == 1, "a request of nobody's")
    late = answer(served, "upstreams", "drain", llama.url, "--wait", "1", code=1)
    assert late["running"] == 1
    stream.close()


def test_a_short_wait_is_no_proof(
    served: Flask, llama: SimulatedLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KNOWN_SECONDS", 60.0)
    late = answer(served, "upstreams", "drain", llama.url, "--wait", "1", code=1)
    assert late["running"] is None
