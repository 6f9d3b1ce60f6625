"""The clients of `bench.agents`: agents with growing conversations, and newcomers."""

import argparse
import http.client
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.books import Account

OUTPUT_TOKENS = 50
BYTES_PER_TOKEN = 4
NEWCOMER_TOKENS = 3000


@dataclass
class Turn:
    """One request as its client saw it (seconds since the epoch)."""

    tag: str
    owner: str
    sent_at: float
    new_tokens: int = 0
    first_token_at: float = 0.0
    text: str = ""


def take_turn(port: int, key: str, messages: list[dict[str, str]], turn: Turn) -> None:
    """Send a streamed chat and read its answer; raises AssertionError if it is not complete."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    try:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        body = json.dumps({"messages": messages, "stream": True}).encode()
        turn.sent_at = time.time()
        connection.request("POST", "/v1/chat/completions", body, headers)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        complete = False
        while line := response.readline():
            if line.startswith(b"data: [DONE]"):
                complete = True
            elif line.startswith(b"data: "):
                for choice in json.loads(line[6:])["choices"]:
                    text = choice["delta"].get("content") or ""
                    if text and not turn.text:
                        turn.first_token_at = time.time()
                    turn.text += text
        assert complete, "the answer was cut"
    finally:
        connection.close()


@dataclass
class Load:
    """Agents and newcomers in front of one gateway."""

    port: int
    options: argparse.Namespace
    turns: list[Turn] = field(default_factory=list)
    newcomers: list[Turn] = field(default_factory=list)
    problems: list[BaseException] = field(default_factory=list)

    def run(self, agents: list[Account], newcomers: list[Account]) -> None:
        """Run to the end of the last agent; raises the first problem of a client."""
        threads = [
            threading.Thread(target=self._run, args=(self._agent, f"agent{number}", account))
            for number, account in enumerate(agents)
        ]
        for thread in threads:
            thread.start()
        others = []
        for number, account in enumerate(newcomers):
            time.sleep(self.options.newcomer_seconds / self.options.speed)
            if not any(thread.is_alive() for thread in threads):
                break
            arguments = (self._newcomer, f"newcomer{number}", account)
            others.append(threading.Thread(target=self._run, args=arguments))
            others[-1].start()
        for thread in [*threads, *others]:
            thread.join()
        if self.problems:
            raise self.problems[0]

    def _run(self, act: Callable[[str, Account], None], name: str, account: Account) -> None:
        try:
            act(name, account)
        except BaseException as problem:
            self.problems.append(problem)

    def _agent(self, name: str, account: Account) -> None:
        messages: list[dict[str, str]] = []
        for number in range(self.options.turns):
            turn = Turn(f"{name}-{number}", name, 0.0, self.options.new_tokens)
            messages.append({"role": "user", "content": text_of(turn, self.options.new_tokens)})
            self.turns.append(turn)
            take_turn(self.port, account.key, messages, turn)
            messages.append({"role": "assistant", "content": turn.text})

    def _newcomer(self, name: str, account: Account) -> None:
        turn = Turn(name, name, 0.0)
        self.newcomers.append(turn)
        messages = [{"role": "user", "content": text_of(turn, NEWCOMER_TOKENS)}]
        take_turn(self.port, account.key, messages, turn)


def text_of(turn: Turn, tokens: int) -> str:
    """Return a text of about so many tokens, of which no two are alike."""
    end = f"[[sim tag={turn.tag} owner={turn.owner} tokens={OUTPUT_TOKENS}]]"
    line = f"{turn.tag} says: "
    size = tokens * BYTES_PER_TOKEN - len(end)
    numbered = "".join(f"{line}{number} " for number in range(size // len(line) + 1))
    return numbered[:size] + end
