"""Metrics of a real gateway with two workers, which are killed in the end."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3
from prometheus_client.parser import text_string_to_metric_families

from sandbox.llama import SimulatedLlama
from tests.plugins.stacks import MakeStack
from tests.support.books import Account, wait_for
from tests.support.load import CHAT, ask
from tests.support.servers import Gateway
from tests.support.stack import Stack

pytestmark = pytest.mark.slow

CHAT_LABEL = {"gen_ai_operation_name": "chat"}


class Scrape:
    """One scrape, by whichever worker accepted the connection."""

    def __init__(self, gateway: Gateway) -> None:
        answer = urllib3.request("GET", f"{gateway.url}/metrics", retries=False, timeout=30.0)
        assert answer.status == 200
        self.samples = [
            sample
            for family in text_string_to_metric_families(answer.data.decode())
            for sample in family.samples
        ]

    def value(self, name: str, **labels: str) -> float:
        """Return a sample; 0 if it is not shown."""
        found = [s.value for s in self.samples if s.name == name and s.labels == labels]
        return found[0] if found else 0

    def durations(self, operation: str = "chat", error_type: str = "") -> float:
        """Return how many requests have ended."""
        labels = {"gen_ai_operation_name": operation, "error_type": error_type}
        return self.value("gen_ai_server_request_duration_seconds_count", **labels)


@pytest.fixture(scope="module")
def stack(make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack("metrics") as stack:
        yield stack


@pytest.fixture(scope="module")
def llama(stack: Stack) -> SimulatedLlama:
    return stack.simulated_llama(embeddings=True, slots=8)


@pytest.fixture(scope="module")
def gateway(stack: Stack, llama: SimulatedLlama) -> Gateway:
    return stack.gateway(llama.url, workers=2, KEEPALIVE_COMMENT_SECONDS=1)


@pytest.fixture(scope="module")
def account(stack: Stack) -> Account:
    return stack.books.account()


def post(gateway: Gateway, path: str, key: str, **body: Any) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    answer = urllib3.request(
        "POST", f"{gateway.url}{path}", json=body, headers=headers, retries=False, timeout=30.0
    )
    return answer.status


def test_requests_are_counted_over_both_workers(
    gateway: Gateway, account: Account, llama: SimulatedLlama
) -> None:
    replies = [ask(gateway.port, account.key, "tokens=8", stream=n % 2 == 0) for n in range(8)]
    assert {reply.end for reply in replies} == {"done"}
    scrape = Scrape(gateway)
    assert scrape.durations() == 8
    usage = [reply.usage or {} for reply in replies]
    for kind, field in (("input", "prompt_tokens"), ("output", "completion_tokens")):
        expected = sum(item[field] for item in usage)
        assert scrape.value("promptly_tokens_total", type=kind) == expected
    assert scrape.value("promptly_tokens_total", type="cached") <= scrape.value(
        "promptly_tokens_total", type="input"
    )
    for name in ("time_to_first_token", "time_per_output_token"):
        assert scrape.value(f"gen_ai_server_{name}_seconds_count", **CHAT_LABEL) == 8
    paying = {"class": "paying"}
    assert scrape.value("promptly_queue_wait_seconds_count", **paying) == 8
    assert scrape.value("promptly_queue_length", **paying) == 0
    grants = [
        scrape.value("promptly_slots_granted_total", cache=found)
        for found in ("hit", "miss", "none")
    ]
    assert sum(grants) == 8
    states = [
        scrape.value("promptly_slots_by_state", upstream=llama.url, state=state)
        for state in ("leased", "free", "unsettled", "counted")
    ]
    assert sum(states) == 8
    assert scrape.value("promptly_upstream_up", upstream=llama.url) == 1
    assert scrape.value("promptly_slots", upstream=llama.url) > 0
    assert scrape.value("promptly_streams_open") == 0
    assert scrape.value("promptly_postgres_up") == scrape.value("promptly_redis_up") == 1


def test_kinds_of_requests(gateway: Gateway, account: Account) -> None:
    assert post(gateway, "/v1/embeddings", account.key, input="text", model="m") == 200
    assert post(gateway, "/v1/completions", account.key, prompt="text", max_tokens=4) == 200
    scrape = Scrape(gateway)
    assert scrape.durations("embeddings") == scrape.durations("text_completion") == 1


def test_refusals_and_no_label_from_a_client(gateway: Gateway, account: Account) -> None:
    secret = "sk-made-up-model"
    assert post(gateway, CHAT, "sk-wrong", messages=[]) == 401
    assert post(gateway, CHAT, account.key, model=secret, messages="no list") == 400
    assert post(gateway, f"/v1/{secret}", account.key) == 404
    reply = ask(gateway.port, account.key, "", model=secret)
    assert reply.end == "done"
    scrape = Scrape(gateway)
    assert scrape.value("promptly_requests_refused_total", code="invalid_api_key") == 1
    assert scrape.value("promptly_requests_refused_total", code="unknown_url") == 1
    values = {value for sample in scrape.samples for value in sample.labels.values()}
    assert not [value for value in values if secret in value or account.email in value]


def test_killed_workers(gateway: Gateway, account: Account, llama: SimulatedLlama) -> None:
    before = Scrape(gateway).durations()
    headers = {**account.headers, "Content-Type": "application/json"}
    message = {"role": "user", "content": "[[sim tokens=2000 delay_ms=100]]"}
    streams = [
        urllib3.request(
            "POST",
            f"{gateway.url}{CHAT}",
            json={"messages": [message], "stream": True},
            headers=headers,
            preload_content=False,
            retries=False,
            timeout=30.0,
        )
        for _ in range(6)
    ]
    assert {stream.status for stream in streams} == {200}
    assert Scrape(gateway).value("promptly_streams_open") == 6
    assert Scrape(gateway).value("promptly_slots_taken", upstream=llama.url) == 6
    for worker in gateway.worker_pids():
        os.kill(worker, signal.SIGKILL)
    wait_for(gateway.is_ready, "new workers")
    scrape = Scrape(gateway)
    assert scrape.durations() == before
    assert scrape.value("promptly_streams_open") == 0
    for stream in streams:
        stream.close()
    assert ask(gateway.port, account.key).end == "done"
    assert Scrape(gateway).durations() == before + 1
