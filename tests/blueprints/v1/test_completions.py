"""Text completions of one prompt or several; the one charge is the sum of all counts."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types import Completion

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import Answer, Client, OpenStream
from tests.blueprints.v1.conftest import MakeGateway, MakeLlama
from tests.support.books import Account, BooksReader, wait_for
from tests.support.servers import Gateway

TEXT = "/v1/completions"
Record = dict[str, Any]


def sim(directives: str, text: str = "Once upon a time") -> str:
    """Return a prompt whose directives steer the simulator."""
    return f"{text} [[sim {directives}]]"


def complete(client: Client, prompt: str | list[str], **fields: Any) -> Answer:
    return client.call("POST", TEXT, {"prompt": prompt, **fields})


def open_stream(client: Client, prompt: list[str], **fields: Any) -> OpenStream:
    """Start a streamed request and leave it running."""
    data = json.dumps({"prompt": prompt, "stream": True, **fields}).encode()
    head = f"POST {TEXT} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {client.key}\r\n"
    return client.raw(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)


def counts(*records: Record) -> tuple[int, int]:
    """Return the sums of these records' prompt and completion tokens."""
    return sum(r["prompt_tokens"] for r in records), sum(r["completion_tokens"] for r in records)


def charged(event: dict[str, Any]) -> tuple[int, int]:
    """Return an event's prompt and completion tokens after checking that it charges their sum."""
    assert event["charged_tokens"] == event["prompt_tokens"] + event["completion_tokens"]
    assert event["uncharged_tokens"] == 0
    return event["prompt_tokens"], event["completion_tokens"]


@pytest.fixture
def sdk(gateway: Gateway, account: Account) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=account.key) as client:
        yield client


def test_one_prompt(
    client: Client, llama: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    answer = complete(client, sim("tokens=20 tag=one"), max_tokens=50)
    assert answer.status == 200
    Completion.model_validate(answer.json, strict=True)
    prompt, completion = counts(llama.request("one"))
    assert completion == 20
    assert answer.json["usage"]["total_tokens"] == prompt + completion
    [choice] = answer.json["choices"]
    assert choice["text"]
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")
    request_id = answer.headers["x-promptly-request-id"]
    assert answer.json["id"] == f"cmpl-{request_id.removeprefix('req_')}"
    assert answer.json["model"] == "sim-model"
    assert answer.headers["x-promptly-charged-tokens"] == str(prompt + completion)
    [event] = books.wait_for_events(account, 1)
    assert (event["endpoint"], event["outcome"]) == ("completions", "completed")
    assert charged(event) == (prompt, completion)


def test_several_prompts_are_one_request(
    client: Client, llama: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    prompts = [sim(f"tokens={5 + 3 * n} tag=p{n}", text="word " * n) for n in range(6)]
    answer = complete(client, prompts, max_tokens=14)
    records = [llama.request(f"p{n}") for n in range(6)]
    usage = answer.json["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == counts(*records)
    assert [record["completion_tokens"] for record in records] == [5, 8, 11, 14, 14, 14]
    choices = answer.json["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3, 4, 5]
    assert [choice["finish_reason"] for choice in choices] == ["stop"] * 4 + ["length"] * 2
    [event] = books.wait_for_events(account, 1)
    assert charged(event) == counts(*records)
    assert answer.headers["x-promptly-charged-tokens"] == str(sum(counts(*records)))
    assert books.balance(account)["available_tokens"] == 1_000_000 - sum(counts(*records))
    # The prompts run one after the other.
    for before, after in itertools.pairwise(records):
        assert before["ended_at"] <= after["slot_at"]


@pytest.mark.parametrize("include_usage", [None, False, True])
def test_a_stream_of_several_prompts(
    client: Client, llama: SimulatedLlama, include_usage: bool | None
) -> None:
    options = {} if include_usage is None else {"stream_options": {"include_usage": include_usage}}
    prompts = [sim("tokens=9 tag=a split=random"), sim("tokens=12 first=utf8 tag=b")]
    answer = complete(client, prompts, stream=True, **options)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = answer.events
    assert len({event["id"] for event in events}) == 1
    assert {event["object"] for event in events} == {"text_completion"}
    reported = [event for event in events if "usage" in event]
    if include_usage:
        assert reported == [events[-1]]
        assert events.pop()["choices"] == []
        usage = reported[0]["usage"]
        records = llama.request("a"), llama.request("b")
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == counts(*records)
    else:
        assert reported == []
    choices = [event["choices"][0] for event in events]
    places = [choice["index"] for choice in choices]
    assert places == sorted(places)
    assert [c["finish_reason"] for c in choices if c["finish_reason"]] == ["stop", "stop"]
    for private in (b"timings", b"prompt_progress", b"chatcmpl"):
        assert private not in answer.body
    whole = complete(client, prompts).json["choices"]
    for place in (0, 1):
        text = "".join(choice["text"] for choice in choices if choice["index"] == place)
        assert text == whole[place]["text"] != ""


def test_sixteen_tokens_unless_more_are_asked_for(client: Client) -> None:
    answer = complete(client, [sim("tokens=90"), sim("tokens=90")])
    assert answer.json["usage"]["completion_tokens"] == 32


def test_the_official_sdk(sdk: openai.OpenAI, books: BooksReader, account: Account) -> None:
    prompts = [sim("tokens=6 cache=0"), sim("tokens=9 cache=0")]
    answer = sdk.completions.create(model="any", prompt=prompts, logprobs=2)
    Completion.model_validate(answer.model_dump(), strict=True)
    assert answer.model_extra == {}
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 15
    for choice in answer.choices:
        assert choice.model_extra == {}
        assert choice.logprobs is not None
        assert choice.logprobs.tokens is not None
        assert "".join(choice.logprobs.tokens) == choice.text
        assert choice.logprobs.text_offset is not None
        for token, offset in zip(choice.logprobs.tokens, choice.logprobs.text_offset, strict=True):
            assert choice.text[offset:].startswith(token)
    stream = sdk.completions.create(
        model="any", prompt=prompts, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    for place, choice in enumerate(answer.choices):
        shown = [c.choices[0].text for c in chunks if c.choices[0].index == place]
        assert "".join(shown) == choice.text
    assert last.usage == answer.usage
    for event in books.wait_for_events(account, 2):
        assert event["charged_tokens"] == answer.usage.total_tokens


def test_errors_have_their_classes(sdk: openai.OpenAI, llama: SimulatedLlama) -> None:
    with pytest.raises(openai.BadRequestError, match="token ids") as refusal:
        sdk.completions.create(model="any", prompt=[[1, 2, 3]])
    assert refusal.value.param == "prompt"
    assert llama.requests() == []
    with pytest.raises(openai.APIError) as problem:
        list(sdk.completions.create(model="any", prompt=sim("error_after=3"), stream=True))
    assert problem.value.code == "upstream_error"


def sizes(gateway: Gateway, books: BooksReader, prompts: list[str]) -> list[int]:
    """Return the sizes of prompts in tokens."""
    client = Client(gateway.url, books.account().key)
    answers = [complete(client, prompt, max_tokens=1).json["usage"] for prompt in prompts]
    return [usage["prompt_tokens"] for usage in answers]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("delay", ["", " delay_ms=2"])
def test_the_balance_ends_at_the_second_prompt(
    gateway: Gateway, llama: SimulatedLlama, books: BooksReader, streamed: bool, delay: str
) -> None:
    prompts = [sim(f"tokens=90{delay}", text="word " * n) for n in range(1, 5)]
    needed = sizes(gateway, books, prompts)
    llama.clear()
    account = books.account(paid_tokens=sum(needed) + 40 + 11)
    answer = complete(
        Client(gateway.url, account.key),
        prompts,
        max_tokens=40,
        stream=streamed,
        **({"stream_options": {"include_usage": True}} if streamed else {}),
    )
    ended = check_choices(answer, streamed, 4)
    # The last two prompts keep their reservation until the second ends, then it is released.
    check_account(answer, books, account, ended, needed[:2], 51, left=sum(needed[2:]))
    assert len(llama.requests()) == 2


@pytest.mark.parametrize("streamed", [True, False])
def test_the_balance_ends_while_a_hold_grows(
    growing_gateway: Gateway, llama: SimulatedLlama, books: BooksReader, streamed: bool
) -> None:
    prompts = [sim("tokens=1500", text="word " * 200) for _ in range(3)]
    needed = sizes(growing_gateway, books, prompts)
    llama.clear()
    # Covers the byte bounds of all prompts, but not all output: the bounds of pending prompts must
    # not stay reserved from the first prompt to the last.
    account_tokens = len("".join(prompts)) + 200
    account = books.account(paid_tokens=account_tokens)
    answer = complete(
        Client(growing_gateway.url, account.key),
        prompts,
        max_tokens=5000,
        stream=streamed,
        **({"stream_options": {"include_usage": True}} if streamed else {}),
    )
    ended = check_choices(answer, streamed, 3)
    output = account_tokens - sum(needed)
    assert 1500 < output < 3000
    assert len(llama.requests()) == 2
    check_account(answer, books, account, ended, needed[:2], output, left=needed[2])


def check_choices(answer: Answer, streamed: bool, number: int) -> dict[str, Any]:
    """Check that only the first two choices have text; return the usage."""
    assert answer.status == 200
    if streamed:
        *events, last = answer.events
        choices = [event["choices"][0] for event in events]
        usage = last["usage"]
    else:
        choices, usage = answer.json["choices"], answer.json["usage"]
    texts = [""] * number
    for choice in choices:
        texts[choice["index"]] += choice["text"]
    assert [bool(text) for text in texts] == [True] * 2 + [False] * (number - 2)
    reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    assert len(reasons) == number
    assert set(reasons[1:]) == {"length"}
    reported: dict[str, Any] = usage
    return reported


def check_account(
    answer: Answer,
    books: BooksReader,
    account: Account,
    usage: dict[str, Any],
    prompts: list[int],
    output: int,
    left: int,
) -> None:
    """Check that usage, event and balance agree."""
    before = books.balance(account)["available_tokens"]
    [event] = books.wait_for_events(account, 1)
    assert event["outcome"] == "balance_exhausted"
    assert charged(event) == (sum(prompts), output)
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == charged(event)
    assert before == books.balance(account)["available_tokens"] == left
    assert books.balance(account)["reserved_tokens"] == 0


def test_less_than_all_prompts_and_one_token(
    gateway: Gateway, llama: SimulatedLlama, books: BooksReader
) -> None:
    prompts = [sim("tokens=9"), sim("tokens=9", text="another")]
    needed = sum(sizes(gateway, books, prompts))
    llama.clear()
    poor = books.account(paid_tokens=needed)
    answer = complete(Client(gateway.url, poor.key), prompts)
    assert (answer.status, answer.error["code"]) == (402, "insufficient_quota")
    assert llama.requests() == []
    just = books.account(paid_tokens=needed + 1)
    choices = complete(Client(gateway.url, just.key), prompts).json["choices"]
    assert [choice["finish_reason"] for choice in choices] == ["length", "length"]
    assert choices[1]["text"] == ""
    [event] = books.wait_for_events(just, 1)
    assert event["completion_tokens"] == 1


def test_all_prompts_are_reserved_while_the_first_is_answered(
    client: Client, books: BooksReader, account: Account
) -> None:
    later = "word " * 5000
    with open_stream(client, [sim("tokens=2000 delay_ms=5"), later], max_tokens=2000) as stream:
        stream.read_until(b'"text"').read_bytes(len(stream.received) + 4000)
        reserved = books.balance(account)["reserved_tokens"]
        assert reserved >= len(later) // 4 + 1
    books.wait_for_events(account, 1)


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_leaves_at_the_second_prompt(
    client: Client, llama: SimulatedLlama, books: BooksReader, account: Account, streamed: bool
) -> None:
    prompts = [sim("tokens=5 tag=first"), sim("tokens=5000 delay_ms=5 tag=second"), "third"]

    def generated() -> int:
        return sum(record["completion_tokens"] for record in llama.requests("second"))

    with open_stream(client, prompts, max_tokens=5000, stream=streamed) as stream:
        if streamed:
            stream.read_until(b'"index":1')
        wait_for(lambda: generated() >= 20, "twenty tokens of the second")
    second = llama.wait_for_end("second", 2.0)
    assert second["outcome"] == "client_closed"
    [event] = books.wait_for_events(account, 1)
    assert event["outcome"] == "client_disconnected"
    assert charged(event) == counts(llama.request("first"), second)
    assert len(llama.requests()) == 2
    wait_for(lambda: llama.totals()["processing"] == 0, "the slot", 2.0)


@pytest.mark.parametrize("fault", ["error_after=5", "eof_after=5"])
@pytest.mark.parametrize("streamed", [True, False])
def test_an_error_at_the_second_prompt(
    client: Client,
    llama: SimulatedLlama,
    books: BooksReader,
    account: Account,
    fault: str,
    streamed: bool,
) -> None:
    prompts = [sim("tokens=7 tag=first"), sim(f"tokens=50 delay_ms=5 {fault} tag=second"), "third"]
    answer = complete(client, prompts, max_tokens=50, stream=streamed)
    if streamed:
        assert answer.status == 200
        assert json.loads(answer.parts[-1].removeprefix("data: "))["error"]["code"] == (
            "upstream_error"
        )
        assert b"[DONE]" not in answer.body
    else:
        assert (answer.status, answer.error["code"]) == (502, "upstream_error")
    [event] = books.wait_for_events(account, 1)
    assert event["outcome"] == "upstream_error"
    second = llama.request("second")
    assert second["completion_tokens"] > 0
    assert charged(event) == counts(llama.request("first"), second)


def test_an_error_before_the_second_prompts_first_token(
    client: Client, llama: SimulatedLlama, books: BooksReader, account: Account
) -> None:
    answer = complete(client, [sim("tokens=7 tag=first"), sim("eof_after=0 prefill_ms=50")])
    assert answer.status == 502
    [event] = books.wait_for_events(account, 1)
    assert charged(event) == counts(llama.request("first"))


def test_prompts_that_do_not_fit_are_refused_before_any_is_answered(
    make_gateway: MakeGateway, make_llama: MakeLlama, books: BooksReader, account: Account
) -> None:
    llama = make_llama(ctx=300)
    client = Client(make_gateway(llama.url).url, account.key)
    # The byte bound exceeds the context, but the exact token count fits.
    assert complete(client, ["short", "word " * 100]).status == 200
    llama.clear()
    answer = complete(client, ["short", "word " * 100, "word " * 400])
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    assert answer.error["param"] == "prompt[2]"
    assert "300" in answer.error["message"]
    assert llama.requests() == []
    alone = complete(client, "word " * 400)
    assert (alone.error["code"], alone.error["param"]) == ("context_length_exceeded", "prompt")
    assert sum(event["charged_tokens"] for event in books.wait_for_events(account, 2)) < 200


def test_others_get_their_turn_between_the_prompts(
    make_gateway: MakeGateway, make_llama: MakeLlama, books: BooksReader, account: Account
) -> None:
    llama = make_llama(slots=1)
    url = make_gateway(llama.url).url
    prompts = [sim(f"tokens=60 delay_ms=10 tag=p{n}") for n in range(3)]
    with open_stream(Client(url, account.key), prompts, max_tokens=60) as stream:
        stream.read_until(b'"index":0')
        other = Client(url, books.account().key)
        assert complete(other, sim("tokens=3 tag=other")).status == 200
        stream.read_until(b"data: [DONE]")
    order = sorted(llama.requests(), key=lambda record: record["slot_at"])
    assert [record["tag"] for record in order] == ["p0", "other", "p1", "p2"]


def test_another_upstream_takes_the_prompts_that_are_left(
    make_gateway: MakeGateway, make_llama: MakeLlama, books: BooksReader, account: Account
) -> None:
    first, second = make_llama(slots=4), make_llama(slots=1)
    client = Client(make_gateway(first.url, second.url).url, account.key)
    prompts = [sim("tokens=40 delay_ms=20 tag=a"), sim("tokens=5 tag=b"), sim("tokens=5 tag=c")]
    with open_stream(client, prompts, max_tokens=40) as stream:
        stream.read_until(b'"index":0')
        first.set_faults(status=503, times=1)
        stream.read_until(b"data: [DONE]")
    ran = [*first.requests(), *second.requests()]
    [event] = books.wait_for_events(account, 1)
    assert event["outcome"] == "completed"
    assert charged(event) == counts(*[r for r in ran if r["outcome"] == "finished"])
    assert [record["outcome"] for record in first.requests("b")] == ["rejected"]
    assert [record["outcome"] for record in second.requests("b")] == ["finished"]


def test_an_upstream_without_the_endpoint(
    make_gateway: MakeGateway, make_llama: MakeLlama, books: BooksReader, account: Account
) -> None:
    with_it, without = make_llama(slots=1), make_llama(slots=4)
    client = Client(make_gateway(with_it.url, without.url).url, account.key)
    without.set_faults(status=404)
    for _ in range(3):
        assert complete(client, sim("tokens=3")).status == 200
    # After one 404 this upstream is not asked again.
    assert [record["path"] for record in without.requests()] == [TEXT]
    with_it.set_faults(status=501)
    for _ in range(2):
        answer = complete(client, sim("tokens=3"))
        assert (answer.status, answer.error["code"]) == (404, "unsupported_endpoint")
    assert len(with_it.requests()) == 4
    with_it.clear()
    without.clear()
    assert client.chat().status == 200
    events = books.wait_for_events(account, 5)
    assert [event["outcome"] for event in events] == [*["completed"] * 3, "rejected", "completed"]
    assert events[3]["charged_tokens"] == 0


def test_fields_without_effect_are_named(client: Client) -> None:
    answer = complete(client, "hello", user="ann", n_predict=5)
    assert answer.headers["x-promptly-ignored"] == "user, n_predict"
