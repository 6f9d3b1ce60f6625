"""OpenAI's official SDK against a running gateway."""

from collections.abc import Iterator
from typing import Any, cast

import openai
import pytest

from sandbox.llama import SimulatedLlama
from tests.blueprints.v1.client import sim
from tests.support.books import Account, BooksReader
from tests.support.servers import Gateway

MESSAGES = cast(Any, sim("tokens=12"))


@pytest.fixture
def sdk(gateway: Gateway, account: Account) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=account.key) as client:
        yield client


def test_an_answer_and_its_charge(sdk: openai.OpenAI, books: BooksReader, account: Account) -> None:
    answer = sdk.chat.completions.create(model="any", messages=MESSAGES)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12
    assert books.balance(account)["paid_tokens"] == 1_000_000 - answer.usage.total_tokens


def test_a_stream(sdk: openai.OpenAI, books: BooksReader, account: Account) -> None:
    options = {"include_usage": True}
    stream = sdk.chat.completions.create(
        model="any", messages=MESSAGES, stream=True, stream_options=cast(Any, options)
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text
    [usage] = [chunk.usage for chunk in chunks if chunk.usage]
    assert usage.completion_tokens == 12
    [event] = books.wait_for_events(account, 1)
    assert event["charged_tokens"] == usage.total_tokens


def test_models(sdk: openai.OpenAI) -> None:
    [model] = sdk.models.list().data
    assert sdk.models.retrieve(model.id) == model
    with pytest.raises(openai.NotFoundError) as refusal:
        sdk.models.retrieve("other")
    assert refusal.value.code == "model_not_found"


def test_errors_have_their_classes(sdk: openai.OpenAI, gateway: Gateway) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        sdk.chat.completions.create(model="any", messages=MESSAGES, n=2)
    assert refusal.value.param == "n"
    assert refusal.value.request_id is not None
    assert refusal.value.request_id.startswith("req_")
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="sk-wrong") as stranger,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        stranger.models.list()
    assert refused.value.code == "invalid_api_key"


def test_an_empty_balance_is_not_asked_again(
    gateway: Gateway, books: BooksReader, llama: SimulatedLlama
) -> None:
    poor = books.account(paid_tokens=1)
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=poor.key) as sdk,
        pytest.raises(openai.APIStatusError) as refusal,
    ):
        sdk.chat.completions.create(model="any", messages=MESSAGES)
    assert refusal.value.status_code == 402
    assert refusal.value.code == "insufficient_quota"
    assert refusal.value.response.headers["x-should-retry"] == "false"
    assert llama.requests() == []


def test_an_error_in_mid_stream_is_raised(sdk: openai.OpenAI) -> None:
    stream = sdk.chat.completions.create(
        model="any", messages=cast(Any, sim("tokens=20 error_after=5")), stream=True
    )
    with pytest.raises(openai.APIError) as problem:
        list(stream)
    assert problem.value.code == "upstream_error"
