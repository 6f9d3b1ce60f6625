"""The doctor's probe of where a model server keeps prompts, on simulated servers and real ones."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import urllib3

from promptly.cli import checks, prompt_cache_checks
from sandbox.llama import SimulatedLlama
from sandbox.ports import free_port
from sandbox.process import wait_until
from sandbox.real_llama import RealLlama
from tests.support.servers import make_settings

Start = Callable[..., SimulatedLlama]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[SimulatedLlama] = []

    def build(**options: Any) -> SimulatedLlama:
        started.append(SimulatedLlama(tmp_path, **options).start())
        return started[-1]

    yield build
    for server in started:
        server.stop()


@pytest.fixture
def http() -> Iterator[urllib3.PoolManager]:
    with urllib3.PoolManager(retries=False) as manager:
        yield manager


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize(("cache_ram", "level"), [(0, "ok"), (8, "warning")])
def test_a_server_that_saves_prompts(
    start: Start, http: urllib3.PoolManager, slots: int, cache_ram: int, level: str
) -> None:
    llama = start(slots=slots, cache_ram=cache_ram)
    for _ in range(2):
        found, message = prompt_cache_checks.finding(http, llama.url)
        assert found == level
        assert ("--cache-ram 0" in message) is (level == "warning")
    # No request names a slot, which may be busy by the time that it arrives.
    bodies = [record["body"] for record in llama.requests()]
    assert len(bodies) == 6
    assert not any("id_slot" in body for body in bodies)


def test_a_busy_server_is_left_alone(start: Start, http: urllib3.PoolManager) -> None:
    llama = start(slots=2)
    body = {
        "prompt": "[[sim tokens=9000 delay_ms=20 tag=busy]]",
        "max_tokens": 9000,
        "stream": True,
    }
    answer = http.request("POST", f"{llama.url}/v1/completions", json=body, preload_content=False)
    level, message = prompt_cache_checks.finding(http, llama.url)
    assert level == "ok" and "requests are running" in message
    assert len(llama.requests()) == 1
    answer.close()


def test_requests_in_between(start: Start, http: urllib3.PoolManager) -> None:
    llama = start(slots=2, cache_ram=8)
    # The probe's own requests are slow enough for another one to run meanwhile.
    llama.set_faults(prefill_ms=300)
    with ThreadPoolExecutor(1) as executor:
        probe = executor.submit(prompt_cache_checks.finding, http, llama.url)
        wait_until(lambda: llama.totals()["processing"] == 1, 10, "the probe")
        body = {"prompt": "[[sim prefill_ms=0]] hello", "max_tokens": 1}
        http.request("POST", f"{llama.url}/v1/completions", json=body)
        level, message = probe.result()
    assert level == "ok" and "in between" in message


def test_a_server_that_hides_its_slots(start: Start, http: urllib3.PoolManager) -> None:
    llama = start(shows_slots=False)
    level, message = prompt_cache_checks.finding(http, llama.url)
    assert level == "warning" and "--no-slots" in message
    assert llama.requests() == []
    findings = list(checks.upstreams(make_settings(llama_base_url=(llama.url,))))
    assert [finding.level for finding in findings] == ["ok", "warning"]


def test_a_server_that_is_gone(http: urllib3.PoolManager) -> None:
    level, message = prompt_cache_checks.finding(http, f"http://127.0.0.1:{free_port()}")
    assert level == "warning" and "not checked" in message


def test_the_doctor_asks_only_servers_for_text(start: Start) -> None:
    llama = start(api_key="secret", embeddings=True)
    settings = make_settings(llama_base_url=(), llama_embeddings_base_url=(llama.url,))
    assert len(list(checks.upstreams(settings))) == 1
    assert llama.requests() == []


@pytest.mark.real_llama
@pytest.mark.parametrize(
    ("arguments", "level"),
    [
        (("--cache-ram", "0"), "ok"),
        ((), "warning"),
        (("--kv-unified",), "warning"),
        (("--kv-unified", "--cache-ram", "0"), "ok"),
        (("--no-slots", "--cache-ram", "0"), "warning"),
    ],
    ids=lambda value: "_".join(value).replace("--", "") if isinstance(value, tuple) else value,
)
def test_real_servers(
    tmp_path: Path, http: urllib3.PoolManager, arguments: tuple[str, ...], level: str
) -> None:
    llama = RealLlama(tmp_path, slots=2, arguments=arguments)
    llama.start()
    try:
        for _ in range(2):
            found = prompt_cache_checks.finding(http, llama.url)
            assert found[0] == level, found
            assert "not checked" not in found[1]
            assert ("--no-slots" in arguments) is ("--no-slots" in found[1])
    finally:
        llama.stop()
