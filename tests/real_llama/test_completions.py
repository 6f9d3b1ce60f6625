"""Text completions through the gateway from a real llama-server with a tiny random model."""

import json
from typing import Any

import openai
import pytest
from openai.types import Completion

from promptly.gateway.dialects.completions.request import parse_completion
from sandbox.real_llama import RealLlama
from tests.blueprints.v1.client import Answer, Client
from tests.real_llama.test_chat import NO_END
from tests.sandbox.llama.wire import call
from tests.support.books import Account, BooksReader
from tests.support.servers import Gateway

pytestmark = pytest.mark.real_llama

TEXT = "/v1/completions"
PROMPTS = ["hello world", "the river", " a  b\n", "<|im_start|>user hello", "日本語🌍", "\u0000x"]


def complete(client: Client, prompt: str | list[str], **fields: Any) -> Answer:
    return client.call("POST", TEXT, {"prompt": prompt, **fields})


def tokens(llama: RealLlama, prompt: str) -> int:
    """Return the size of a prompt in tokens, as the server counts it beforehand."""

    def ask(path: str, body: bytes) -> Any:
        status, _, data = call(
            llama.url, "POST", path, body, {"Authorization": f"Bearer {llama.api_key}"}
        )
        assert status == 200
        return json.loads(data)

    [made] = parse_completion(json.dumps({"prompt": prompt}).encode()).prompts
    return made.count(ask)


@pytest.mark.parametrize("prompt", [*PROMPTS, "hello " * 500])
def test_what_is_counted_beforehand_is_what_is_charged(
    client: Client, llama: RealLlama, prompt: str
) -> None:
    answer = complete(client, prompt, max_tokens=1)
    assert answer.json["usage"]["prompt_tokens"] == tokens(llama, prompt)


@pytest.mark.parametrize("streamed", [True, False])
def test_several_prompts(
    client: Client, llama: RealLlama, books: BooksReader, account: Account, streamed: bool
) -> None:
    fields: dict[str, Any] = {"max_tokens": 12, "seed": 7, **NO_END}
    if streamed:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    answer = complete(client, PROMPTS, **fields)
    if streamed:
        *events, last = answer.events
        choices = [event["choices"][0] for event in events]
        usage = last["usage"]
    else:
        Completion.model_validate(answer.json, strict=True)
        choices, usage = answer.json["choices"], answer.json["usage"]
    assert usage["prompt_tokens"] == sum(tokens(llama, prompt) for prompt in PROMPTS)
    assert usage["completion_tokens"] == 12 * len(PROMPTS)
    ended = [(one["index"], one["finish_reason"]) for one in choices if one["finish_reason"]]
    assert ended == [(place, "length") for place in range(len(PROMPTS))]
    for place in range(len(PROMPTS)):
        assert "".join(one["text"] for one in choices if one["index"] == place)
    for private in (b"timings", b"prompt_progress", b"chatcmpl"):
        assert private not in answer.body
    [event] = books.wait_for_events(account, 1)
    assert event["charged_tokens"] == usage["total_tokens"]


@pytest.mark.parametrize("logprobs", [0, 3])
def test_logprobs(client: Client, logprobs: int) -> None:
    fields = {"max_tokens": 8, "logprobs": logprobs, "seed": 3, **NO_END}
    [choice] = complete(client, "hello world", **fields).json["choices"]
    found = choice["logprobs"]
    assert "".join(found["tokens"]) == choice["text"]
    for token, chosen, top in zip(
        found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True
    ):
        assert top[token] == chosen < 0
        # Special tokens have no text, and so share one key.
        assert 1 <= len(top) <= logprobs + 1
    for token, offset in zip(found["tokens"], found["text_offset"], strict=True):
        assert choice["text"][offset:].startswith(token)


def test_a_stop_word_that_ends_in_mid_token(client: Client) -> None:
    answer = complete(client, "hello world", max_tokens=60, stop=["e"], seed=1, **NO_END)
    [choice] = answer.json["choices"]
    assert choice["finish_reason"] == "stop"
    assert "e" not in choice["text"]


@pytest.mark.parametrize("streamed", [True, False])
def test_the_balance_ends_at_the_second_prompt(
    client: Client, gateway: Gateway, llama: RealLlama, books: BooksReader, streamed: bool
) -> None:
    sizes = [tokens(llama, prompt) for prompt in PROMPTS[:3]]
    account = books.account(paid_tokens=sum(sizes) + 20 + 7)
    fields = {"max_tokens": 20, "stream": streamed, **NO_END}
    answer = complete(Client(gateway.url, account.key), PROMPTS[:3], **fields)
    assert answer.status == 200
    [event] = books.wait_for_events(account, 1)
    assert event["outcome"] == "balance_exhausted"
    assert (event["prompt_tokens"], event["completion_tokens"]) == (sum(sizes[:2]), 27)
    assert event["uncharged_tokens"] == 0
    assert books.balance(account)["available_tokens"] == sizes[2]
    last = answer.events[-1]["choices"][0] if streamed else answer.json["choices"][2]
    assert (last["index"], last["text"], last["finish_reason"]) == (2, "", "length")


def test_a_prompt_beyond_the_context(client: Client, books: BooksReader, account: Account) -> None:
    answer = complete(client, ["hello", "hello world " * 5000])
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    assert answer.error["param"] == "prompt[1]"
    alone = complete(client, "hello world " * 5000, stream=True)
    assert (alone.status, alone.error["param"]) == (400, "prompt")
    assert "4096" in alone.error["message"]
    assert books.balance(account)["available_tokens"] == 1_000_000


def test_the_official_sdk(gateway: Gateway, books: BooksReader, account: Account) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=account.key) as sdk:
        answer = sdk.completions.create(
            model="tiny", prompt=PROMPTS[:2], max_tokens=5, logit_bias=NO_END["logit_bias"]
        )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 10
    [event] = books.wait_for_events(account, 1)
    assert event["charged_tokens"] == answer.usage.total_tokens
