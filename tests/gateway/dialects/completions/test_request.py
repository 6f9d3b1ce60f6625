"""Translation of text completion bodies: fields refused, forwarded, or ignored and named."""

import json
import typing
from typing import Any

import msgspec
import pytest

from promptly.errors import InvalidRequest
from promptly.gateway.dialects.completions.request import (
    DEFAULT_MAX_TOKENS,
    MAX_PROMPTS,
    CompletionBody,
    TextRequest,
    parse_completion,
)
from promptly.gateway.dialects.sampling import Sampling
from tests.gateway.dialects.chat.test_request import FORWARDED

SAMPLING = {name: FORWARDED[name] for name in Sampling.__struct_fields__}
STREAMED = {
    "stream": True,
    "stream_options": {"include_usage": True},
    "timings_per_token": True,
    "return_progress": True,
}


def body(**fields: Any) -> bytes:
    return json.dumps({"prompt": "hello", **fields}).encode()


def upstream(asked: TextRequest, number: int = 0, max_tokens: int | None = None) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(asked.prompts[number].upstream_body(max_tokens))
    return sent


def _wrong(kind: Any) -> Any:
    """Return a value that no branch of a declared type accepts."""
    text = str(kind)
    return 5 if "int" not in text and "float" not in text else {"not": "a number"}


MALFORMED: dict[str, tuple[bytes, str | None]] = {
    "no JSON": (b"{'prompt': 5}", None),
    "an array": (b"[]", None),
    "no prompt": (b"{}", "prompt"),
    "prompt null": (body(prompt=None), "prompt"),
    "prompt empty": (body(prompt=""), "prompt"),
    "prompt a number": (body(prompt=5), "prompt"),
    "prompts empty": (body(prompt=[]), "prompt"),
    "an empty prompt among others": (body(prompt=["a", ""]), "prompt[1]"),
    "too many prompts": (body(prompt=["a"] * (MAX_PROMPTS + 1)), "prompt"),
    "token ids": (body(prompt=[1, 2, 3]), "prompt"),
    "lists of token ids": (body(prompt=[[1, 2], [3]]), "prompt"),
    "token ids among texts": (body(prompt=["a", 5]), "prompt"),
    "no limit at all": (body(max_tokens=0), "max_tokens"),
    "two answers": (body(n=2), "n"),
    "the best of two": (body(best_of=2), "best_of"),
    "echo": (body(echo=True), "echo"),
    "suffix": (body(suffix=" end"), "suffix"),
    "grammar": (body(grammar="root ::= x"), "grammar"),
    "json_schema": (body(json_schema={}), "json_schema"),
    "response_format": (body(response_format={"type": "text"}), "response_format"),
    "too many logprobs": (body(logprobs=21), "logprobs"),
    "logprobs as chat has them": (body(logprobs=True), "logprobs"),
    "stream_options without stream": (body(stream_options={}), "stream_options"),
    **{
        f"{name} of a wrong type": (body(**{name: _wrong(kind)}), name)
        for name, kind in typing.get_type_hints(CompletionBody, include_extras=True).items()
    },
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_bodies_are_refused_naming_the_field(name: str) -> None:
    sent, param = MALFORMED[name]
    with pytest.raises(InvalidRequest) as refusal:
        parse_completion(sent)
    assert refusal.value.status == 400
    found = refusal.value.param
    assert (found and found.removesuffix("[...]")) == param


def test_the_refusal_of_token_ids_says_why() -> None:
    with pytest.raises(InvalidRequest, match="token ids"):
        parse_completion(body(prompt=[[15496]]))


@pytest.mark.parametrize("name", SAMPLING)
def test_a_known_field_is_forwarded(name: str) -> None:
    asked = parse_completion(body(**{name: SAMPLING[name]}))
    assert upstream(asked) == {"prompt": "hello", name: SAMPLING[name], **STREAMED}
    assert asked.ignored == ()


def test_everything_at_once_is_forwarded_with_every_prompt() -> None:
    prompts = ['hé "quoted"', "🌍\n"]
    asked = parse_completion(body(prompt=prompts, logprobs=3, **SAMPLING))
    for number, prompt in enumerate(prompts):
        assert upstream(asked, number, 7) == {
            "prompt": prompt,
            "logprobs": 3,
            "max_tokens": 7,
            **SAMPLING,
            **STREAMED,
        }
    assert [prompt.param for prompt in asked.prompts] == ["prompt[0]", "prompt[1]"]


def test_null_means_absent() -> None:
    every = [field.name for field in msgspec.structs.fields(CompletionBody)]
    names = [name for name in every if name != "prompt"]
    asked = parse_completion(body(**dict.fromkeys([*names, "user"])))
    assert upstream(asked) == upstream(parse_completion(body()))
    assert (asked.stream, asked.include_usage, asked.logprobs) == (False, False, None)
    assert asked.ignored == ()


def test_values_equal_to_the_default_are_accepted() -> None:
    asked = parse_completion(body(n=1, best_of=1, echo=False, suffix=""))
    assert upstream(asked) == upstream(parse_completion(body()))


def test_the_limit_is_openais_unless_one_is_given() -> None:
    assert parse_completion(body()).max_tokens == DEFAULT_MAX_TOKENS == 16
    assert parse_completion(body(max_tokens=500)).max_tokens == 500


def test_the_chosen_tokens_own_figure_needs_an_alternative() -> None:
    asked = parse_completion(body(logprobs=0))
    assert (asked.logprobs, upstream(asked)["logprobs"]) == (0, 1)


@pytest.mark.parametrize(
    "name",
    [
        "n_predict",
        "ignore_eos",
        "id_slot",
        "n_cmpl",
        "cache_prompt",
        "n_probs",
        "max_completion_tokens",
    ],
)
def test_fields_that_could_defeat_metering_are_dropped_and_named(name: str) -> None:
    asked = parse_completion(body(**{name: 5, "user": "ann"}))
    assert asked.ignored == (name, "user")
    assert upstream(asked) == upstream(parse_completion(body()))


@pytest.mark.parametrize("prompt", ["a", "🌍" * 5000, '"\\\n' * 1000, "\u0000"])
def test_the_bound_is_at_least_the_prompt(prompt: str) -> None:
    [made] = parse_completion(body(prompt=prompt)).prompts
    # The worst possible tokenizer makes one token per byte, plus one at each end.
    assert made.prompt_bound >= len(prompt.encode()) + 2


def test_counting_asks_for_the_same_text() -> None:
    [made] = parse_completion(body(prompt="hé\n")).prompts
    asked = []

    def call(path: str, data: bytes) -> Any:
        asked.append((path, json.loads(data)))
        return {"tokens": [1, 2, 3]}

    assert made.count(call) == 3
    assert asked == [("/tokenize", {"content": "hé\n", "add_special": True})]
