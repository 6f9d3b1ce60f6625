from typing import Any

import pytest

from promptly.gateway.dialects import unsupported_parts

TEXT = {"type": "text", "text": "a"}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("image", "image"),
        ("image_url", "image"),
        ("input_image", "image"),
        ("input_audio", "audio"),
        ("input_file", "file"),
        ("document", "document"),
        ("tool_reference", "tool reference"),
        ("search_result", "search result"),
    ],
)
def test_a_short_text_takes_the_place_of_a_part(kind: str, name: str) -> None:
    parts: list[Any] = [TEXT, {"type": kind, "data": "x" * 1000}]
    assert unsupported_parts.replace(parts, "tool") == (f"tool.{kind}",)
    assert parts == [TEXT, {"type": "text", "text": f"[{name} not supported by this model]"}]


def test_each_kind_is_named_once() -> None:
    parts: list[Any] = [{"type": kind} for kind in ("image", "file", "image")]
    assert unsupported_parts.replace(parts, "tool") == ("tool.image", "tool.file")


@pytest.mark.parametrize("kind", ["a, b", "x\r\ny", "ü", "", "x" * 65])
def test_a_kind_that_a_header_cannot_carry_is_a_part(kind: str) -> None:
    parts: list[Any] = [{"type": kind}]
    assert unsupported_parts.replace(parts, "tool") == ("tool.part",)
    assert parts == [{"type": "text", "text": "[content not supported by this model]"}]


@pytest.mark.parametrize("parts", ["image", None, 5, {"type": "image"}])
def test_content_that_is_no_list_is_left_as_it_is(parts: Any) -> None:
    assert unsupported_parts.replace(parts, "tool") == ()


def test_parts_that_are_malformed_are_left_for_the_check() -> None:
    parts: list[Any] = [TEXT, {"text": "a"}, {"type": None}, {"type": 5}, {"type": []}, "image", 5]
    assert unsupported_parts.replace(parts, "tool") == ()
    assert parts[1:] == [{"text": "a"}, {"type": None}, {"type": 5}, {"type": []}, "image", 5]


def test_texts_of_another_api() -> None:
    texts = ("input_text", "output_text", None)
    parts: list[Any] = [{"type": "output_text", "text": "a"}, {"type": "input_image"}]
    found = unsupported_parts.replace(parts, "function_call_output", texts)
    assert found == ("function_call_output.input_image",)
    assert parts[1] == {"type": "input_text", "text": "[image not supported by this model]"}


@pytest.mark.parametrize("messages", [None, 5, "x", [5], [{"role": "tool"}], [{"content": 5}]])
def test_messages_that_are_malformed_are_left_for_the_check(messages: Any) -> None:
    assert unsupported_parts.replace_in_tool_messages(messages) == ()
    assert unsupported_parts.replace_in_tool_results(messages) == ()


def test_only_results_of_tools_are_changed() -> None:
    image = {"type": "image"}
    messages = [{"role": "user", "content": [dict(image)]}]
    assert unsupported_parts.replace_in_tool_messages(messages) == ()
    assert unsupported_parts.replace_in_tool_results(messages) == ()
    assert messages == [{"role": "user", "content": [image]}]
