"""The cases that each program goes through.

A case returns a note for the table, and raises Failure if anything is not as it should be.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import urllib3

from sandbox.llama.script import say
from tests.agents.programs import Program
from tests.agents.recorder import Exchange
from tests.agents.running import Ended, Place
from tests.agents.trial import Failure, Trial
from tests.agents.world import World
from tests.support.books import wait_for

WRITTEN = "written by the model"
# An error that no retry mends may be retried, but not for long.
MOST_REQUESTS = 8
LONGEST_RETRIES_SECONDS = 30


@dataclass(frozen=True)
class Case:
    """A case by name, with the heading of its column."""

    name: str
    title: str
    run: Callable[[Program, World, Place], str]
    quick: bool = False  # in `make check`


def require(condition: bool, problem: str) -> None:
    """Raise Failure unless the condition holds."""
    if not condition:
        raise Failure(problem)


def require_success(ended: Ended, text: str) -> None:
    """Raise Failure unless a program ended well and showed the text."""
    require(ended.code is not None, "it did not end in time")
    require(ended.code == 0, f"exit code {ended.code}")
    require(ended.shows(text), "the answer is not shown")


def first_prompt(program: Program, world: World, place: Place) -> str:
    """A prompt and a text as its answer."""
    trial = Trial(program, world, place, "tools")
    trial.simulator.set_script("Task 1101", say("The harbour is open."))
    ended = trial.ask("Task 1101: is the harbour open?")
    require_success(ended, "The harbour is open.")
    require(not trial.refused(), "; ".join(map(str, trial.refused())))
    trial.check_books()
    return ""


def tool(program: Program, world: World, place: Place) -> str:
    """A tool call, its result, and the answer to that; the file is there."""
    trial = Trial(program, world, place, "tools")
    _write_a_file(trial, "Task 1102", "one.txt")
    trial.check_books()
    return ""


def second_turn(program: Program, world: World, place: Place) -> str:
    """The same, and then again in the same conversation."""
    if not program.resume:
        return "–"
    trial = Trial(program, world, place, "tools")
    _write_a_file(trial, "Task 1103", "one.txt")
    before = len(trial.exchanges())
    _write_a_file(trial, "Task 1104", "two.txt", after="Task 1103: write one.txt")
    earlier = [b"Task 1103" in exchange.body for exchange in trial.exchanges()[before:]]
    require(any(earlier), "the first turn is not in the second one's requests")
    trial.check_books()
    return ""


def _write_a_file(trial: Trial, task: str, name: str, after: str = "") -> None:
    file = trial.place.folder / name
    step = trial.program.write(file, WRITTEN)
    answer = f"{name} has been written."
    script = [{"say": f"{step['say']}\n{answer}"}] if "say" in step else [step, say(answer)]
    trial.simulator.set_script(task, *script)
    ended = trial.ask(f"{task}: write {name}", after=after)
    require_success(ended, answer)
    require(file.exists(), "the file is not there")
    require(file.read_text().strip() == WRITTEN, f"the file has {file.read_text()!r}")
    require(not trial.refused(), "; ".join(map(str, trial.refused())))


def stream(program: Program, world: World, place: Place) -> str:
    """A slow stream: comments while the prompt is read, then characters cut across packets."""
    trial = Trial(program, world, place, "tools")
    trial.simulator.set_script("Task 1105", say("Grüße aus 東京: the harbour is open."))
    trial.simulator.set_faults(prefill_ms=2500, delay_ms=20, split="utf8")
    ended = trial.ask("Task 1105: is the harbour open?")
    require_success(ended, "Grüße aus 東京: the harbour is open.")
    kinds = [found.content_type for found in trial.exchanges() if b"Task 1105" in found.body]
    require(any("text/event-stream" in kind for kind in kinds), f"not streamed: {kinds}")
    trial.check_books()
    return ""


def wrong_key(program: Program, world: World, place: Place) -> str:
    """A wrong key: the error is shown, and not retried for long."""
    key = "sk-" + "0" * 46
    trial = Trial(program, world, place, "tools", key=key)
    # Claude Code has words of its own.
    return _refused(trial, 401, "Incorrect API key", "Please run /login")


def empty_balance(program: Program, world: World, place: Place) -> str:
    """An empty balance: the error is shown, and not retried for long."""
    trial = Trial(program, world, place, "tools", tokens=1)
    return _refused(trial, 402, "Insufficient balance")


def _refused(trial: Trial, status: int, *texts: str) -> str:
    ended = trial.ask("Task 1106: is the harbour open?")
    statuses = [found.status for found in trial.exchanges()]
    require(set(statuses) == {status}, f"statuses {statuses}")
    require(ended.code is not None, f"it did not end in time, after {len(statuses)} requests")
    shown = any(ended.shows(text) for text in texts)
    require(shown, f"the message is not shown ({len(statuses)} requests)")
    times = [found.at for found in trial.exchanges()]
    seconds = max(times) - min(times)
    require(len(statuses) <= MOST_REQUESTS, f"{len(statuses)} requests in {seconds:.0f} s")
    require(seconds <= LONGEST_RETRIES_SECONDS, f"{len(statuses)} requests in {seconds:.0f} s")
    return _count(len(statuses))


def _count(requests: int) -> str:
    return "1 request" if requests == 1 else f"{requests} requests"


def busy(program: Program, world: World, place: Place) -> str:
    """Another request occupies the account for some seconds: the program waits for 429."""
    trial = Trial(program, world, place, "single")
    trial.simulator.set_script("Task 1107", say("The harbour is open."))
    with _Occupied(trial, seconds=2.5):
        ended = trial.ask("Task 1107: is the harbour open?")
    statuses = [found.status for found in trial.exchanges()]
    require(429 in statuses, f"statuses {statuses}")
    require_success(ended, "The harbour is open.")
    return "waits"


class _Occupied:
    """From the program's first request on, another request of its account runs for some seconds."""

    def __init__(self, trial: Trial, *, seconds: float) -> None:
        self._trial = trial
        self._seconds = seconds
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> None:
        self._trial.backend.recorder.before = self._start

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._thread.join()

    def _start(self, exchange: Exchange) -> None:
        with self._lock:
            if self._thread is None and exchange.method == "POST":
                self._thread = threading.Thread(target=self._run)
                self._thread.start()
                simulator = self._trial.simulator
                wait_for(lambda: bool(simulator.requests("occupied")), "the other request")

    def _run(self) -> None:
        directives = "[[sim tokens=20000 delay_ms=50 tag=occupied]]"
        answer = urllib3.request(
            "POST",
            f"{self._trial.backend.recorder.target}/v1/chat/completions",
            json={"messages": [{"role": "user", "content": directives}], "stream": True},
            headers=self._trial.account.headers,
            preload_content=False,
            retries=False,
        )
        deadline = time.monotonic() + self._seconds
        while time.monotonic() < deadline:
            answer.read1(1024)
        answer.close()


def overflow(program: Program, world: World, place: Place) -> str:
    """More than the model's context: the program says so, or shortens and tries again.

    The prompt alone is too long, so that shortening the rest of the conversation does not help.
    """
    trial = Trial(program, world, place, "small")
    ended = trial.ask("Task 1108: " + "the harbour is open, " * 1500)
    statuses = [found.status for found in trial.exchanges()]
    require(400 in statuses, f"statuses {statuses}")
    require(ended.code is not None, f"it did not end in time, after {len(statuses)} requests")
    shown = [
        word for word in ("context", "too long", "token limit") if word in ended.output.lower()
    ]
    shortened = 200 in statuses
    require(bool(shown) or shortened, f"nothing is shown ({len(statuses)} requests)")
    require(len(statuses) <= MOST_REQUESTS, f"{len(statuses)} requests")
    trial.check_books()
    return f"shortens, {_count(len(statuses))}" if shortened else _count(len(statuses))


def cut(program: Program, world: World, place: Place) -> str:
    """The program is killed in the middle of an answer: receipt right, hold gone."""
    trial = Trial(program, world, place, "tools")
    trial.simulator.set_script("Task 1109", say("The harbour is open. " * 2000))
    trial.simulator.set_faults(delay_ms=25)

    def is_answering() -> bool:
        return any(
            record["completion_tokens"] > 40 and not record["ended_at"]
            for record in trial.simulator.requests()
        )

    ended = trial.ask("Task 1109: is the harbour open?", stop_when=is_answering)
    require(ended.code is None, f"it ended first, with exit code {ended.code}")
    trial.check_books()
    outcomes = {event["outcome"] for event in world.books.events(trial.account)}
    require(outcomes == {"client_disconnected"}, f"outcomes {outcomes}")
    return ""


def text_profile(program: Program, world: World, place: Place) -> str:
    """Tools in the Responses API of a gateway that allows only text: the error says what to set."""
    if not program.responses:
        return "–"
    trial = Trial(program, world, place, "text")
    ended = trial.ask("Task 1110: write one.txt")
    statuses = [found.status for found in trial.exchanges()]
    require(set(statuses) == {400}, f"statuses {statuses}")
    require(ended.shows("RESPONSES_PROFILE"), "the message is not shown")
    return _count(len(statuses))


CASES = [
    Case("first", "first prompt", first_prompt),
    Case("tool", "tool", tool),
    Case("turns", "second turn", second_turn, quick=True),
    Case("stream", "slow stream", stream),
    Case("profile", "profile `text`", text_profile),
    Case("key", "wrong key", wrong_key),
    Case("balance", "empty balance", empty_balance, quick=True),
    Case("busy", "429", busy),
    Case("overflow", "overflow", overflow),
    Case("cut", "killed", cut, quick=True),
]
