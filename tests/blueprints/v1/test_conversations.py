"""Any answer, put together as the SDKs do, can be sent back: every conversation can go on.

Answers end in any way, by themselves, by a limit, the balance, an error of the model server or the
client's own hand, and anywhere: in a thought, in a word, in the arguments of a tool call.
"""

import itertools
import json
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sandbox.llama import SimulatedLlama
from sandbox.llama.prompt import count_special
from tests.blueprints.v1.client import Client
from tests.blueprints.v1.sdk_dialects import DIALECTS, DUMPS, NOTHING, Answered, Dialect, events
from tests.run import EXHAUSTIVE
from tests.support.books import BooksReader
from tests.support.servers import Gateway

pytestmark = pytest.mark.slow

Json = dict[str, Any]
EXAMPLES = 1000 if EXHAUSTIVE else 25

# Results of tools: text, nothing, and parts, of which None stands for an image.
RESULTS: tuple[Any, ...] = (
    *("5", "", None, [], "half \ud83d"),
    *([{"type": "text", "text": "5"}, None], [None]),
)
TAGS = itertools.count()


@dataclass(frozen=True)
class Plan:
    """How one answer goes, how it ends, and how its client keeps it."""

    thoughts: int
    calls: int
    words: int
    first: Literal["", "utf8"]
    stream: bool
    end: Literal["", "limit", "balance", "error_after", "eof_after", "client"]
    at: int  # tokens, or events for an end by the client
    dump: int
    text: str = "and then?"
    result: int = 0

    @property
    def directives(self) -> str:
        """Steering of the simulator."""
        found = f"think={self.thoughts} tool={self.calls} tokens={self.words}"
        if self.first:
            found += f" first={self.first}"
        return f"{found} {self.end}={self.at}" if self.end.endswith("_after") else found

    @property
    def is_streamed(self) -> bool:
        """Whether to stream: without one, an error leaves nothing of the answer."""
        return self.stream or self.end in ("error_after", "eof_after", "client")


PLANS = st.builds(
    Plan,
    thoughts=st.integers(0, 3),
    calls=st.integers(0, 3),
    words=st.integers(1, 20),
    first=st.sampled_from(["", "utf8"]),
    stream=st.booleans(),
    end=st.sampled_from(["", "limit", "balance", "error_after", "eof_after", "client"]),
    at=st.integers(1, 60),
    dump=st.integers(0, len(DUMPS) - 1),
    text=st.sampled_from(["and then?", "half \ud83d", "\U0001f30d"]),
    result=st.integers(0, len(RESULTS) - 1),
)


@dataclass(frozen=True)
class Talk:
    """Holds conversations in one API."""

    dialect: Dialect
    gateway: Gateway
    llama: SimulatedLlama
    books: BooksReader
    client: Client

    def ask(self, turns: list[Json], plan: Plan) -> Answered:
        """Send a conversation; return what the client keeps of the answer."""
        body = {**self.dialect.body(turns), "stream": plan.is_streamed}
        client = self.client
        if plan.end == "limit":
            body[self.dialect.limit] = plan.at
        if plan.end == "balance":
            client = self._with_tokens(self._count(turns) + plan.at)
        answer = client.call("POST", self.dialect.path, body)
        if plan.end.endswith("_after") and answer.status == 502:
            # The model server failed before the answer had anything to show.
            return NOTHING
        assert answer.status == 200, answer.body
        if not plan.is_streamed:
            return self.dialect.read_whole(answer.json, DUMPS[plan.dump])
        found = events(answer.body)
        if plan.end == "client":
            found = found[: plan.at]
        return self.dialect.read_stream(found, DUMPS[plan.dump])

    def _count(self, turns: list[Json]) -> int:
        body = self.dialect.body(turns)
        if self.dialect.count_path is None:
            return count_special(body["prompt"])
        body.pop("max_tokens", None)
        counted = self.client.call("POST", self.dialect.count_path, body)
        return int(counted.json["input_tokens"])

    def _with_tokens(self, tokens: int) -> Client:
        return Client(self.gateway.url, self.books.account(paid_tokens=tokens).key)

    def hold(self, plans: list[Plan]) -> tuple[Json, list[Answered]]:
        """Hold a conversation; return what upstream got at its end, and all answers."""
        turns: list[Json] = []
        answered, result = [NOTHING], None
        for plan in plans:
            text = f"{plan.text} [[sim {plan.directives}]]"
            calls = answered[-1].calls
            said = self.dialect.say(text, calls, result)
            answered.append(self.ask([*turns, *said], plan))
            if not answered[-1].turns:
                # Some APIs merge this turn with the next, whose directives alone must count.
                said = self.dialect.say(plan.text, calls, result)
            turns += said + answered[-1].turns
            result = RESULTS[plan.result]
        tag = f"conversation{next(TAGS)}"
        turns += self.dialect.say(f"last [[sim tag={tag}]]", answered[-1].calls, result)
        answer = self.client.call("POST", self.dialect.path, self.dialect.body(turns))
        assert answer.status == 200, answer.body
        sent: Json = self.llama.request(tag)["body"]
        return sent, answered


def check_prompt(sent: Json, answered: list[Answered]) -> None:
    """Check that upstream got valid messages, with all that was said in them."""
    if "prompt" in sent:
        # The conversation is one text.
        places = [sent["prompt"].find(answer.text) for answer in answered]
        assert min(places) >= 0
        return
    messages = sent["messages"]
    for message in messages:
        assert isinstance(message["content"], str | list)
        for call in message.get("tool_calls", []):
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
    said = [message for message in messages if message["role"] == "assistant"]
    assert "".join(text_of(message) for message in said) == "".join(a.text for a in answered)
    called = [call["id"] for message in said for call in message.get("tool_calls", [])]
    assert called == [call for answer in answered for call in answer.calls]
    results = [message["tool_call_id"] for message in messages if message["role"] == "tool"]
    assert results == called


def text_of(message: Json) -> str:
    content = message.get("content", "")
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


@pytest.fixture(scope="module", params=DIALECTS)
def talk(
    request: pytest.FixtureRequest,
    running_gateway: Gateway,
    running_llama: SimulatedLlama,
    books: BooksReader,
) -> Talk:
    running_llama.clear()
    dialect, gateway = DIALECTS[request.param], running_gateway
    if dialect.profile == "tools":
        gateway = request.getfixturevalue("tools_gateway")
    client = Client(gateway.url, books.account(paid_tokens=10**9).key)
    return Talk(dialect, gateway, running_llama, books, client)


CUT_IN_ARGUMENTS = Plan(0, 1, 1, "", stream=True, end="limit", at=16, dump=0)
NULL_RESULT = Plan(0, 1, 1, "", stream=True, end="", at=1, dump=0, result=2)
ONLY_THOUGHTS = Plan(3, 0, 9, "", stream=True, end="limit", at=2, dump=1)


@settings(max_examples=EXAMPLES, derandomize=not EXHAUSTIVE)
@example(plans=[CUT_IN_ARGUMENTS])
@example(plans=[NULL_RESULT])
@example(plans=[ONLY_THOUGHTS])
@given(plans=st.lists(PLANS, min_size=1, max_size=3))
def test_every_conversation_goes_on(talk: Talk, plans: list[Plan]) -> None:
    check_prompt(*talk.hold(plans))


@pytest.mark.parametrize("end", ["limit", "balance", "error_after", "client"])
@pytest.mark.parametrize("calls", [0, 2])
def test_an_answer_cut_at_every_token(talk: Talk, end: Any, calls: int) -> None:
    for at in range(1, 70, 1 if EXHAUSTIVE else 16):
        for dump in range(len(DUMPS)) if EXHAUSTIVE else [at % len(DUMPS)]:
            plan = Plan(2, calls, 12, "", stream=True, end=end, at=at, dump=dump)
            check_prompt(*talk.hold([plan]))
