"""Counting prompts: not for nobody, and not without end."""

import pytest

from promptly.errors import UpstreamTimeout
from promptly.gateway import Gateway, prompt_counting
from promptly.gateway.dialects.completions.request import TextPrompt
from promptly.gateway.in_flight import ClientGone
from promptly.gateway.prompt_counting import PromptCounter
from promptly.services.accounts.authentication import Caller
from sandbox.llama import SimulatedLlama
from tests.conftest import AppFactory
from tests.gateway.conftest import MakeLlama

CALLER = Caller(key_id=1, user_id=1, available_tokens=1000, pays=True)
PROMPT = TextPrompt(b'"some words"', b"", "prompt")


@pytest.fixture
def llama(make_llama: MakeLlama) -> SimulatedLlama:
    return make_llama()


@pytest.fixture
def gateway(app_factory: AppFactory, llama: SimulatedLlama) -> Gateway:
    gateway: Gateway = app_factory(llama_base_url=(llama.url,)).extensions["gateway"]
    return gateway


def test_nothing_is_counted_once_the_request_has_ended(
    gateway: Gateway, llama: SimulatedLlama
) -> None:
    has_ended = False

    def raise_if_ended() -> None:
        if has_ended:
            raise ClientGone

    counter = PromptCounter(gateway, CALLER, raise_if_ended)
    assert counter.count(PROMPT, "sim-model") == 4
    has_ended = True
    with pytest.raises(ClientGone):
        counter.count(PROMPT, "sim-model")
    assert llama.totals()["counted"] == 1


def test_a_request_counts_for_a_limited_time(
    gateway: Gateway, llama: SimulatedLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_counting, "MAX_SECONDS", 0)
    with pytest.raises(UpstreamTimeout):
        PromptCounter(gateway, CALLER, lambda: None).count(PROMPT, "sim-model")
    assert llama.totals()["counted"] == 0
