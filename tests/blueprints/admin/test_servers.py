"""Model servers in the panel: slots, the queue by account, draining."""

from collections.abc import Iterator

import pytest
from flask import Flask

from promptly.gateway import Gateway
from promptly.gateway.slots.requests import ServiceClass, SlotRequest
from promptly.secret import Secret
from promptly.services import drains
from promptly.transactions import transaction
from sandbox.llama import SimulatedLlama
from tests.blueprints.admin.conftest import ADMIN_KEY
from tests.blueprints.admin.panel import XSS, Panel
from tests.conftest import AppFactory
from tests.support import factories
from tests.support.books import wait_for
from tests.support.slots import name_slots

DRAIN, RESUME = "/admin/servers/drain", "/admin/servers/resume"


@pytest.fixture
def llama() -> Iterator[SimulatedLlama]:
    server = SimulatedLlama(slots=2, ctx=4096, alias="tiny").start()
    yield server
    server.stop()


def panel_of(app: Flask) -> Panel:
    client = app.test_client()
    assert client.post("/admin/session", data={"key": ADMIN_KEY}).status_code == 303
    return Panel(app, client)


@pytest.fixture
def pages(app_factory: AppFactory, llama: SimulatedLlama) -> Panel:
    return panel_of(app_factory(admin_key=Secret(ADMIN_KEY), llama_base_url=(llama.url,)))


@pytest.fixture
def taken(pages: Panel) -> Iterator[list[SlotRequest]]:
    """Slot requests that are released at the end."""
    gateway: Gateway = pages.app.extensions["gateway"]
    taken: list[SlotRequest] = []
    yield taken
    for slot_request in taken:
        gateway.slots.release(slot_request)
    wait_for(lambda: gateway.slots.report().waiting == 0, "nobody waits")


def account(pages: Panel, email: str) -> int:
    with pages.app.app_context(), transaction():
        return factories.user(email).id


def test_slots_and_the_queue(
    pages: Panel, taken: list[SlotRequest], redis_url: str, llama: SimulatedLlama
) -> None:
    gateway: Gateway = pages.app.extensions["gateway"]
    ann, bob = account(pages, "ann@example.com"), account(pages, "bob@example.com")
    first = gateway.slots.request(ann)
    assert first.changed.wait(10)
    assert "1 of 2 taken, counted only" in pages.words("/admin/servers")
    gateway.slots.release(first)
    name_slots(redis_url, llama.url)
    taken += [gateway.slots.request(ann, prompt_tokens=1234), gateway.slots.request(10**9)]
    assert all(item.changed.wait(10) for item in taken)
    taken.append(gateway.slots.request(bob, service_class=ServiceClass.TRIAL))
    wait_for(lambda: gateway.slots.report().waiting == 1, "one waits")
    words = pages.words("/admin/servers")
    assert f"{llama.url} Drain…" in words and "State ready" in words
    assert "tiny" in words and "4,096 tokens per slot" in words and "2 busy" in words
    assert "busy paying" in words and "ann@example.com" in words and "1,234" in words
    # An account that does not exist any more.
    assert "deleted" in words
    assert "1 request waiting for a slot" in words
    assert "bob@example.com trial 1 0 0 s" in words


def test_nothing_runs(pages: Panel) -> None:
    words = pages.words("/admin/servers")
    assert "No request is waiting." in words and "Prompt speed not measured yet" in words


def test_draining_and_resuming(pages: Panel, llama: SimulatedLlama) -> None:
    question = pages.words(f"{DRAIN}?url={llama.url}")
    assert llama.url in question and "No other model server is ready" in question
    words = pages.confirm(f"{DRAIN}?url={llama.url}", note="new kernel")
    assert f"{llama.url} gets no new request." in words
    assert "State drained" in words and "by panel:admin: new kernel" in words
    assert f"{llama.url} Resume…" in words
    assert "drained" in pages.words("/admin")
    # Twice is once.
    pages.confirm(f"{DRAIN}?url={llama.url}")
    words = pages.confirm(f"{RESUME}?url={llama.url}")
    assert "gets requests again" in words and "State ready" in words
    assert [(action, subject) for action, _, subject, _, _ in pages.audited()] == [
        ("upstream.drain", llama.url),
        ("upstream.resume", llama.url),
    ]
    assert "upstream: drain" in pages.words("/admin/audit")


@pytest.mark.parametrize(
    "change", [{"csrf_token": ""}, {"user_id": "7"}, {"url": "http://x"}, {"note": "x" * 501}]
)
def test_forms_that_do_not_fit(pages: Panel, llama: SimulatedLlama, change: dict[str, str]) -> None:
    pages.post(DRAIN, pages.form(f"{DRAIN}?url={llama.url}") | change, 400)
    with pages.app.app_context():
        assert drains.drained() == {}
    assert pages.audited() == []


def test_there_must_be_such_a_server(pages: Panel) -> None:
    for path in (DRAIN, RESUME):
        assert "is not a configured model server" in pages.words(f"{path}?url={XSS}", 400)
        pages.page(path, 400)


def test_redis_away(app_factory: AppFactory, llama: SimulatedLlama) -> None:
    app = app_factory(
        admin_key=Secret(ADMIN_KEY),
        llama_base_url=(llama.url,),
        redis_url="redis://127.0.0.1:1/0",
    )
    pages = panel_of(app)
    words = pages.words("/admin/servers")
    assert "Redis is unavailable: slots and the queue are unknown" in words
    assert "use unknown" in words and "Queue by account" not in words
    assert "unknown, as Redis is away" in pages.words(f"{DRAIN}?url={llama.url}")
    pages.confirm(f"{DRAIN}?url={llama.url}")
    # Requests may still run there.
    assert "State draining" in pages.words("/admin/servers")


def test_names_are_text(pages: Panel) -> None:
    [upstream] = pages.app.extensions["gateway"].pool.upstreams
    pages.page("/admin/servers")
    upstream.model = XSS
    assert "<script>alert(1)" in pages.words("/admin/servers")
