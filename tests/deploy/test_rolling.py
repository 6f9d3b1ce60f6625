"""Deploys under load: deploy.sh replaces gateways run from the shipped systemd units."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import urllib3

from sandbox.ports import free_port
from sandbox.process import wait_until
from tests.deploy.releases import configure, deploy
from tests.support.load import Reply, messages, new_tag
from tests.support.process_stack import ProcessStack, running, say
from tests.support.units import Systemd

BACKGROUND = ("promptly-worker.service", "promptly-beat.service")
LISTENER = "promptly-listener.service"
STREAM = "tokens=60 delay_ms=30"
ANSWER = "tokens=20 delay_ms=20"
# Shorter than httpx keeps an idle connection (5 s), longer than a check of the worker.
PAUSE_SECONDS = 3.0


class Clients:
    """OpenAI's SDK without retries, one per thread, each with the connection pool it comes with."""

    def __init__(self, port: int, key: str) -> None:
        self.replies: list[Reply] = []
        self._url, self._key = f"http://127.0.0.1:{port}/v1", key
        self._over = threading.Event()

    @contextmanager
    def running(self, *kinds: tuple[bool, float]) -> Iterator[None]:
        """Send requests during the block, one client per kind: streamed or not, and its pause."""
        with ThreadPoolExecutor(len(kinds)) as pool:
            clients = [pool.submit(self._talk, *kind) for kind in kinds]
            try:
                yield
            finally:
                self._over.set()
            for client in clients:
                client.result()

    def wait_for(self, count: int) -> None:
        """Wait for that many further answers."""
        least = self._done() + count
        wait_until(lambda: self._done() >= least, 60, "answers")

    def in_flight(self, moment: float) -> int:
        """Return how many requests ran at a moment."""
        return sum(reply.started_at < moment < reply.ended_at for reply in self.replies)

    def _done(self) -> int:
        return sum(reply.end == "done" for reply in list(self.replies))

    def _talk(self, stream: bool, pause_seconds: float) -> None:
        with openai.OpenAI(base_url=self._url, api_key=self._key, max_retries=0) as sdk:
            while not self._over.is_set():
                reply = Reply(new_tag(), started_at=time.monotonic())
                self.replies.append(reply)
                try:
                    (self._stream if stream else self._answer)(sdk, reply)
                except openai.OpenAIError as problem:
                    reply.end, reply.code = "failed", f"{problem!r}, {problem.__cause__!r}"
                reply.ended_at = time.monotonic()
                self._over.wait(pause_seconds)

    @staticmethod
    def _stream(sdk: openai.OpenAI, reply: Reply) -> None:
        asked: Any = messages(reply.tag, STREAM)
        answer = sdk.chat.completions.with_raw_response.create(
            model="default", messages=asked, stream=True, stream_options={"include_usage": True}
        )
        reply.request_id = answer.headers["x-request-id"]
        for chunk in answer.parse():
            if chunk.usage is not None:
                reply.usage, reply.end = chunk.usage.model_dump(), "done"

    @staticmethod
    def _answer(sdk: openai.OpenAI, reply: Reply) -> None:
        asked: Any = messages(reply.tag, ANSWER)
        answer = sdk.chat.completions.with_raw_response.create(model="default", messages=asked)
        reply.request_id = answer.headers["x-request-id"]
        usage = answer.parse().usage
        assert usage is not None
        reply.usage, reply.end = usage.model_dump(), "done"
        assert answer.headers["x-promptly-charged-tokens"] == str(usage.total_tokens)


@pytest.mark.alone
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("deploys", "workers"), [(6, 1), pytest.param(20, 2, marks=pytest.mark.exhaustive)]
)
def test_deploys_under_load_fail_no_request(deploys: int, workers: int, tmp_path: Path) -> None:
    port = free_port()
    with running(ProcessStack(tmp_path / "stack")) as stack, Systemd(ignored=BACKGROUND) as systemd:
        gateway = stack.make_gateway(workers=workers, port=port, code=None, DRAIN_SECONDS=60)
        configure(systemd, gateway)
        for version in ("1.0.0", "1.1.0"):
            systemd.install(version)
        deploy(systemd, "1.0.0")
        clients = Clients(port, stack.books.account(paid_tokens=10_000_000).key)
        kinds = [(True, 0.0), (True, 0.0), (False, 0.0), (False, 0.0), (False, 0.0)]
        with clients.running(*kinds, (True, PAUSE_SECONDS), (False, PAUSE_SECONDS)):
            for number in range(deploys):
                clients.wait_for(4)
                deploy(systemd, f"1.{(number + 1) % 2}.0")
        gateways = [unit for unit in systemd.processes if "gateway" in unit]
        assert len(gateways) == deploys + 1
        old, current = gateways[:-1], gateways[-1]
        wait_until(lambda: not any(map(systemd.is_running, old)), 60, "the end of old gateways")

        assert [reply for reply in clients.replies if reply.end != "done"] == []
        stack.check_charges(clients.replies)
        stack.check_books()
        assert {systemd.processes[unit].returncode for unit in old} == {0}
        assert systemd.is_running(current) and systemd.is_running(LISTENER)
        assert systemd.enabled == {LISTENER, current, *BACKGROUND}
        running_at = [clients.in_flight(systemd.stopped_at[unit]) for unit in old]
        assert min(running_at) >= 1
        say(f"{deploys} deploys, {len(clients.replies)} requests, running at SIGTERM: {running_at}")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_without_its_listener_a_gateway_ends_and_can_start_again(tmp_path: Path) -> None:
    """Its successor may have another socket, even in another network namespace."""
    with running(ProcessStack(tmp_path / "stack")) as stack, Systemd() as systemd:
        port = free_port()
        configure(systemd, stack.make_gateway(workers=1, port=port, code=None))
        systemd.install("1.0.0")
        deploy(systemd, "1.0.0")
        [gateway] = [unit for unit in systemd.processes if "gateway" in unit]
        first = systemd.processes[gateway]
        systemd.processes[LISTENER].kill()
        wait_until(lambda: not systemd.is_running(gateway), 60, "its end")
        assert first.returncode == 0
        assert "the listener has ended" in systemd.log(gateway)
        for unit in (LISTENER, gateway):
            systemd.start(unit)
        wait_until(lambda: _answers(port), 60, "/health")
        # Celery's units work too: beat schedules a sweep, the worker runs it, and both end.
        stack.wait_for_sweeps()
        for unit in BACKGROUND:
            systemd.stop(unit)
            assert systemd.processes[unit].returncode == 0
        for unit in BACKGROUND:
            for plain in ("celery beat v", "celery@", "shutdown (MainProcess)"):
                assert plain not in systemd.log(unit), "log lines are JSON"


def _answers(port: int) -> bool:
    try:
        url = f"http://127.0.0.1:{port}/health"
        return urllib3.request("GET", url, retries=False, timeout=5).status == 200
    except urllib3.exceptions.HTTPError:
        return False
