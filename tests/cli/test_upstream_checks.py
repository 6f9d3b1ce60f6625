"""`doctor` on model servers: their models, routers, and names that nobody holds."""

from collections.abc import Iterator
from typing import Any

import pytest

from promptly.cli.upstream_checks import UNUSABLE, findings
from promptly.setting_parsers import model_aliases
from sandbox.llama import SimulatedLlama
from tests.support.servers import make_settings


@pytest.fixture(scope="module")
def single() -> Iterator[SimulatedLlama]:
    server = SimulatedLlama(alias="single", ctx=4096).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def router() -> Iterator[SimulatedLlama]:
    server = SimulatedLlama(models=("alpha", "beta"), loaded=1).start()
    yield server
    server.stop()


def found(*servers: SimulatedLlama, **values: Any) -> list[tuple[str, str]]:
    """Return levels and messages, without those about prompt caches."""
    settings = make_settings(llama_base_url=tuple(server.url for server in servers), **values)
    return [
        (level, message)
        for _, level, message in findings(settings)
        if "prompt" not in message or "slots, context" in message
    ]


def test_the_models_of_each_server(single: SimulatedLlama, router: SimulatedLlama) -> None:
    assert found(single, router, default_model="single") == [
        ("ok", "single, 4 slots, context 4096"),
        ("ok", "a router; alpha, 4 slots, context 32768; beta (unloaded)"),
    ]
    assert router.totals()["loads"] == 0


def test_a_router_needs_a_default(router: SimulatedLlama) -> None:
    [_, (level, message)] = found(router)
    assert level == "warning" and "DEFAULT_MODEL" in message


def test_names_that_no_server_holds(single: SimulatedLlama, router: SimulatedLlama) -> None:
    aliases = model_aliases("a:single,b:beta,c:gone")
    reported = found(single, router, default_model="missing", model_aliases=aliases)
    assert [level for level, _ in reported] == ["ok", "ok", "warning", "warning"]
    assert "DEFAULT_MODEL is missing" in reported[2][1]
    assert "c means gone" in reported[3][1]


def test_a_server_that_cannot_be_used(single: SimulatedLlama) -> None:
    other = SimulatedLlama(slots=0, ctx=0).start()
    try:
        assert found(other) == [("warning", UNUSABLE)]
        single.set_faults(loading=True)
        [(level, message)] = found(single)
        assert level == "warning" and "503" in message
    finally:
        single.clear()
        other.stop()
