import json
from typing import Any

import pytest

from promptly.gateway.chat_request import ChatRequest
from promptly.gateway.dialects.chat.request import parse_chat
from promptly.gateway.dialects.messages.request import parse_count
from promptly.gateway.dialects.responses.request import parse_responses
from promptly.gateway.generation import MAX_TOKEN_BYTES

LONG = "a" * 1_000_000
FEWEST = 1_000_000 // MAX_TOKEN_BYTES


def parsed(dialect: str, turns: list[dict[str, Any]]) -> ChatRequest:
    if dialect == "responses":
        return parse_responses(json.dumps({"input": turns}).encode())[0]
    body = json.dumps({"messages": turns}).encode()
    return parse_chat(body) if dialect == "chat" else parse_count(body)


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
def test_the_users_text_is_sure_to_be_in_the_prompt(dialect: str) -> None:
    part = {"type": "input_text" if dialect == "responses" else "text", "text": LONG}
    for content in (LONG, [part]):
        chat = parsed(dialect, [{"role": "user", "content": content}])
        assert chat.fewest_tokens == FEWEST
        assert chat.fewest_tokens < chat.prompt_bound


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
def test_templates_may_leave_out_the_rest(dialect: str) -> None:
    turns = [{"role": "assistant", "content": LONG}, {"role": "user", "content": " " * 1_000_000}]
    assert parsed(dialect, turns).fewest_tokens == 0


def test_the_body_is_one_json_object() -> None:
    chat = parsed("chat", [{"role": "user", "content": "hello"}])
    for max_tokens in (None, 5):
        sent = json.loads(chat.upstream_body(max_tokens))
        assert sent["messages"] == [{"role": "user", "content": "hello"}]
        assert sent["stream"] is True
        assert sent.get("max_tokens") == max_tokens
    chat.drop_text()
    assert chat.encoded == b""
