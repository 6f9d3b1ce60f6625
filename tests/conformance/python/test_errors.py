"""Errors become the SDK's classes, and the SDK retries only where a retry may help."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import openai
import pytest

from sandbox.llama import SimulatedLlama
from tests.conformance.asking import HELLO, NO_END, SHORT_TOKENS, only_simulator, saying
from tests.conformance.backends import Backend
from tests.support.books import Account
from tests.support.tcp_proxy import TcpProxy

MakeClient = Callable[..., openai.OpenAI]

TOO_LONG: Any = [{"role": "user", "content": "hello world " * 12_000}]
BAD: list[Any] = [
    ({"n": 2}, "n", "unsupported_parameter"),
    ({"temperature": 99}, "temperature", None),
    ({"messages": []}, "messages", None),
    ({"tool_choice": "required"}, "tool_choice", None),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, None, None),
    ({"messages": TOO_LONG}, "messages", "context_length_exceeded"),
]


@pytest.fixture
def answered() -> list[int]:
    """The statuses of all responses, including those before a retry."""
    return []


@pytest.fixture
def make_client(backend: Backend, answered: list[int]) -> Iterator[MakeClient]:
    """Factory of clients that record each response's status in `answered`."""
    with ExitStack() as stack:

        def make(key: str, url: str = backend.base_url, **options: Any) -> openai.OpenAI:
            http = openai.DefaultHttpxClient(
                event_hooks={"response": [lambda answer: answered.append(answer.status_code)]}
            )
            client = openai.OpenAI(base_url=url, api_key=key, http_client=http, **options)
            return stack.enter_context(client)

        yield make


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Delays in seconds that the SDK chose before retries; the actual sleep is capped at 1.1 s."""
    asked: list[float] = []
    sleep = time.sleep

    def nap(seconds: float) -> None:
        if seconds > 0.1:  # shorter sleeps are not the SDK's
            asked.append(seconds)
        sleep(min(seconds, 1.1))

    monkeypatch.setattr(time, "sleep", nap)
    return asked


@pytest.mark.parametrize(("fields", "param", "code"), BAD)
@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_request(
    make_client: MakeClient,
    account: Account,
    answered: list[int],
    fields: Any,
    param: str | None,
    code: str | None,
    stream: bool,
) -> None:
    sdk = make_client(account.key)
    with pytest.raises(openai.BadRequestError) as refusal:
        sdk.chat.completions.create(**{"model": "any", "messages": HELLO, **fields}, stream=stream)
    assert answered == [400]
    if param is not None:
        assert refusal.value.param == param
    assert refusal.value.code == code
    assert refusal.value.type == "invalid_request_error"
    assert refusal.value.request_id is not None
    assert refusal.value.request_id.startswith("req_")


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("key", ["sk-wrong", "sk-" + "0" * 46])
def test_a_wrong_key(make_client: MakeClient, answered: list[int], key: str) -> None:
    with pytest.raises(openai.AuthenticationError) as refusal:
        make_client(key).chat.completions.create(model="any", messages=HELLO)
    assert refusal.value.code == "invalid_api_key"
    assert answered == [401]


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("stream", [False, True])
def test_an_empty_balance(
    make_client: MakeClient, backend: Backend, answered: list[int], stream: bool
) -> None:
    poor = backend.books.account(paid_tokens=1)
    with pytest.raises(openai.APIStatusError) as refusal:
        make_client(poor.key).chat.completions.create(model="any", messages=HELLO, stream=stream)
    assert refusal.value.status_code == 402
    assert refusal.value.code == refusal.value.type == "insufficient_quota"
    assert "http" in refusal.value.message, "where to top up"
    assert answered == [402]


def test_an_unknown_route(make_client: MakeClient, account: Account, answered: list[int]) -> None:
    with pytest.raises(openai.NotFoundError) as refusal:
        make_client(account.key).images.generate(prompt="a river")
    assert refusal.value.code == "unknown_url"
    assert answered == [404]


@only_simulator
def test_too_many_at_a_time(
    make_client: MakeClient, account: Account, answered: list[int], naps: list[float]
) -> None:
    sdk = make_client(account.key)
    hurried = sdk.with_options(max_retries=0)
    with ExitStack() as stack:
        for _ in range(4):
            stream = hurried.chat.completions.create(
                model="any", messages=saying("tokens=5000 delay_ms=20"), stream=True
            )
            next(iter(stack.enter_context(stream)))
        with pytest.raises(openai.RateLimitError) as refusal:
            hurried.chat.completions.create(model="any", messages=HELLO)
    assert refusal.value.code == "rate_limit_exceeded"
    assert refusal.value.response.headers["retry-after"] == "2"
    # The other streams have ended by the time of the SDK's retry.
    answer = sdk.chat.completions.create(model="any", messages=HELLO)
    assert answer.choices[0].message.content
    assert answered[:5] == [200] * 4 + [429]
    assert set(naps) <= {2.0}


@only_simulator
def test_unavailable_is_tried_again(
    make_client: MakeClient,
    account: Account,
    simulator: SimulatedLlama,
    answered: list[int],
    naps: list[float],
) -> None:
    simulator.set_faults(status=503, times=1)
    answer = make_client(account.key).chat.completions.create(model="any", messages=HELLO)
    assert answer.choices[0].message.content
    assert answered == [503, 200]
    assert naps == [5.0], "what retry-after says"


@only_simulator
@pytest.mark.parametrize("stream", [False, True])
def test_a_failing_model_server(
    make_client: MakeClient,
    account: Account,
    simulator: SimulatedLlama,
    answered: list[int],
    naps: list[float],
    stream: bool,
) -> None:
    simulator.set_faults(status=500)
    with pytest.raises(openai.InternalServerError) as problem:
        make_client(account.key).chat.completions.create(model="any", messages=HELLO, stream=stream)
    assert problem.value.status_code == 502
    assert problem.value.code == "upstream_error"
    assert "simulated" not in problem.value.message, "upstream's own words stay inside"
    assert answered == [502] * 3
    assert len(naps) == 2


@only_simulator
@pytest.mark.parametrize("fault", ["error_after=5", "eof_after=5", "reset_after=5"])
def test_an_error_in_mid_stream(
    make_client: MakeClient, account: Account, answered: list[int], fault: str
) -> None:
    stream = make_client(account.key).chat.completions.create(
        model="any", messages=saying(f"tokens=20 {fault}"), stream=True
    )
    chunks: list[Any] = []
    with pytest.raises(openai.APIError) as problem:
        chunks.extend(stream)
    assert chunks
    assert problem.value.code == "upstream_error"
    assert answered == [200], "no second try: what was said was said"


@only_simulator
def test_an_error_in_mid_stream_with_the_helper(sdk: openai.OpenAI) -> None:
    with (
        sdk.chat.completions.stream(
            model="any", messages=saying("tokens=20 error_after=5")
        ) as stream,
        pytest.raises(openai.APIError) as problem,
    ):
        stream.until_done()
    assert problem.value.code == "upstream_error"


@only_simulator
def test_an_error_before_a_whole_answer(
    make_client: MakeClient, account: Account, answered: list[int]
) -> None:
    sdk = make_client(account.key, max_retries=0)
    with pytest.raises(openai.InternalServerError) as problem:
        sdk.chat.completions.create(model="any", messages=saying("tokens=20 eof_after=5"))
    assert problem.value.code == "upstream_error"
    assert answered == [502]


@only_simulator
def test_a_stream_that_breaks_off_on_the_way(
    make_client: MakeClient, backend: Backend, account: Account, simulator: SimulatedLlama
) -> None:
    proxy = TcpProxy(("127.0.0.1", backend.gateway.port))
    sdk = make_client(account.key, f"http://127.0.0.1:{proxy.port}/v1")
    stream = sdk.chat.completions.create(
        model="any", messages=saying("tokens=5000 delay_ms=5 tag=torn"), stream=True
    )
    next(iter(stream))
    proxy.close()
    with pytest.raises((openai.APIConnectionError, httpx2.TransportError)):
        list(stream)
    simulator.wait_for_end("torn")


@only_simulator
def test_a_client_that_is_out_of_patience(
    make_client: MakeClient, account: Account, backend: Backend, simulator: SimulatedLlama
) -> None:
    sdk = make_client(account.key, timeout=0.5, max_retries=0)
    with pytest.raises(openai.APITimeoutError):
        sdk.chat.completions.create(model="any", messages=saying("tokens=5000 delay_ms=5 tag=late"))
    # The client disconnected: upstream stops, and its output so far is charged.
    assert simulator.wait_for_end("late")["outcome"] == "client_closed"
    [event] = backend.books.wait_for_events(account, 1)
    assert event["outcome"] == "client_disconnected"
    assert 0 < event["completion_tokens"] < 1000


@only_simulator
def test_errors_with_await(async_sdk: openai.AsyncOpenAI) -> None:
    async def ask() -> None:
        async with async_sdk as sdk:
            with pytest.raises(openai.BadRequestError) as refusal:
                await sdk.chat.completions.create(model="any", messages=HELLO, n=2)
            assert refusal.value.param == "n"
            stream = await sdk.chat.completions.create(
                model="any", messages=saying("tokens=20 error_after=5"), stream=True
            )
            with pytest.raises(openai.APIError) as problem:
                async for _ in stream:
                    pass
            assert problem.value.code == "upstream_error"

    asyncio.run(ask())


def test_after_an_error_the_client_goes_on(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        sdk.chat.completions.create(model="any", messages=HELLO, n=2)
    answer = sdk.chat.completions.create(
        model="any", messages=HELLO, max_tokens=SHORT_TOKENS, extra_body=NO_END
    )
    assert answer.choices[0].message.content
