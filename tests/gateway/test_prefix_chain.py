"""Prompts that begin alike share links, and nothing else is to be learned from a link."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from promptly.errors import InvalidRequest
from promptly.gateway import Gateway, prefix_chain
from promptly.gateway.dialects.chat.request import parse_chat
from promptly.gateway.dialects.completions.request import parse_completion
from promptly.gateway.dialects.messages.request import parse_messages
from promptly.gateway.dialects.responses.profile import TOOLS
from promptly.gateway.dialects.responses.request import parse_responses
from promptly.gateway.prefix_chain import MAX_LINKS, MIN_TOKENS, PIECE_BYTES, Prefix, PrefixChains
from promptly.secret import Secret
from tests.support.servers import make_settings

Json = dict[str, Any]

CHAINS = PrefixChains(Secret("a pepper of the tests"))
SYSTEM = {"role": "system", "content": "You are a careful engineer. " * 20}
FIRST = {"role": "user", "content": "Please look at the build of the house. " * 20}
TOOL: Json = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def chat(*messages: Json, **fields: Any) -> Prefix:
    return parse_chat(json.dumps({"messages": messages, **fields}).encode()).prefix


def digests(prefix: Prefix, account: int = 1, session: str = "") -> list[str]:
    return [link.digest for link in CHAINS.links(prefix, account, session)]


def last(prefix: Prefix) -> str:
    return digests(prefix)[-1]


def said(text: str, **fields: Any) -> Json:
    return {"role": "assistant", "content": text, **fields}


def asked(text: str) -> Json:
    return {"role": "user", "content": text}


def test_a_link_per_beginning_longest_last() -> None:
    links = CHAINS.links(chat(SYSTEM, FIRST), 1)
    assert len(links) == 2
    assert all(re.fullmatch("[0-9a-f]{16}", link.digest) for link in links)
    system, first = (len(message["content"]) // 4 for message in (SYSTEM, FIRST))
    # Roles and marks of ends are a few bytes more.
    assert links[0].tokens == pytest.approx(system, abs=5)
    assert links[1].tokens == pytest.approx(system + first, abs=10)


def test_short_beginnings_have_no_link() -> None:
    assert digests(chat(asked("hello"))) == []
    assert len(digests(chat(asked("hello"), said("hm " * 200), asked("more")))) == 1


def test_the_same_system_prompt_is_shared_and_the_question_is_not() -> None:
    one, other = digests(chat(SYSTEM, FIRST)), digests(chat(SYSTEM, asked("Else? " * 99)))
    assert one[0] == other[0] and one[1] != other[1]


def test_tools_come_before_the_system_prompt() -> None:
    one = digests(chat(SYSTEM, FIRST, tools=[TOOL]))
    assert not set(one) & set(digests(chat(SYSTEM, FIRST)))
    assert one[0] == digests(chat(SYSTEM, asked("Else? " * 99), tools=[TOOL]))[0]
    assert one == digests(chat(SYSTEM, FIRST, tools=[TOOL], temperature=1, seed=7))


@pytest.mark.parametrize(
    "answer",
    [
        said("I did."),
        said("I did. ", reasoning_content="Hm."),
        said(""),
        {"role": "assistant", "content": None, "refusal": "No."},
        {
            "role": "assistant",
            "tool_calls": [{"id": "1", "function": {"name": "look", "arguments": '{"a": 1}'}}],
        },
    ],
    ids=["same", "other space", "cut", "refusal", "call"],
)
def test_the_next_turn_has_the_link_of_the_end_of_this_one(answer: Json) -> None:
    end = last(chat(SYSTEM, FIRST, tools=[TOOL]))
    results = [{"role": "tool", "tool_call_id": "1", "content": "5"}] * ("tool_calls" in answer)
    following = digests(chat(SYSTEM, FIRST, answer, *results, asked("Go on."), tools=[TOOL]))
    assert end in following[:-1]


def test_thoughts_and_the_form_of_the_content_make_no_difference() -> None:
    question = [{"type": "text", "text": FIRST["content"]}]
    one = chat(SYSTEM, FIRST, said("Yes.", reasoning_content="Hm."), asked("Go on."))
    other = chat(SYSTEM, {"role": "user", "content": question}, said("Yes."), asked("Go on."))
    assert digests(one) == digests(other)


def test_an_answer_that_is_changed_later_changes_what_follows_it() -> None:
    one = chat(SYSTEM, FIRST, said("Yes."), asked("Go on."))
    other = chat(SYSTEM, FIRST, said("No."), asked("Go on."))
    assert digests(one)[:2] == digests(other)[:2]
    assert last(one) != last(other)


def test_a_prefilled_answer_is_part_of_the_prompt() -> None:
    assert digests(chat(SYSTEM, FIRST, said("Well")))[:-1] == digests(chat(SYSTEM, FIRST))


def test_the_same_conversation_in_every_dialect() -> None:
    turns = [FIRST, said("Yes."), asked("Go on.")]
    system = SYSTEM["content"]
    made = [
        chat(SYSTEM, *turns),
        parse_messages(json.dumps({"system": system, "messages": turns, "max_tokens": 5}).encode())[
            0
        ].prefix,
        parse_responses(json.dumps({"instructions": system, "input": turns}).encode())[0].prefix,
    ]
    assert len({tuple(digests(prefix)) for prefix in made}) == 1


def test_a_conversation_with_tools_in_responses() -> None:
    items: list[Json] = [
        FIRST,
        {"type": "function_call", "call_id": "1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "5"},
    ]

    def prefix(*given: Json) -> Prefix:
        body = {"input": given, "tools": [{"type": "function", "name": "look"}]}
        return parse_responses(json.dumps(body).encode(), TOOLS)[0].prefix

    assert last(prefix(*items[:1])) in digests(prefix(*items))


def test_a_text_that_goes_on() -> None:
    def prefix(text: str) -> Prefix:
        return parse_completion(json.dumps({"prompt": text}).encode()).prompts[0].prefix

    text = "Once upon a time. " * 2000
    one, other = digests(prefix(text)), digests(prefix(text + "The end."))
    shared = [digest for digest in one if digest in other]
    tokens = {link.digest: link.tokens for link in CHAINS.links(prefix(text), 1)}
    assert tokens[shared[-1]] >= len(text) / 4 - PIECE_BYTES / 2
    assert last(prefix(text)) == last(prefix(text))
    assert digests(prefix("x" * MIN_TOKENS)) == []


def test_a_document_with_another_question_at_its_end() -> None:
    text = "All about bees. " * 4000
    one, other = (digests(chat(asked(text + question))) for question in ("Why?", "How?"))
    assert one[-1] != other[-1]
    assert len(one) > 4
    assert [digest in other for digest in one[:-1]] == [True] * (len(one) - 1)


def test_there_are_few_links_however_long_the_conversation() -> None:
    turns = [said("Yes."), asked("Go on.")] * 20_000
    assert len(digests(chat(SYSTEM, FIRST, *turns), session="a")) == MAX_LINKS


# One conversation's turns: an answer, the results of its calls, a question.
TURNS = st.lists(
    st.tuples(st.text(max_size=40), st.integers(0, 3), st.text(max_size=600)), max_size=70
)


def messages_of(turns: list[tuple[str, int, str]]) -> list[Json]:
    found: list[Json] = [SYSTEM, FIRST]
    for answer, results, question in turns:
        calls = [{"id": str(n), "function": {"name": "look"}} for n in range(results)]
        found.append(said(answer, tool_calls=calls))
        found += [{"role": "tool", "tool_call_id": call["id"], "content": "5"} for call in calls]
        found.append(asked(question))
    return found


@given(turns=TURNS, more=TURNS)
def test_every_continuation_shares_links(
    turns: list[tuple[str, int, str]], more: list[tuple[str, int, str]]
) -> None:
    before, after = chat(*messages_of(turns)), chat(*messages_of(turns + more[:1]))
    links = CHAINS.links(after, 1)
    assert [link.tokens for link in links] == sorted(link.tokens for link in links)
    assert last(before) in digests(after)
    # One that has missed some turns finds a place within about as many more.
    far = chat(*messages_of(turns + more))
    shared = [mark for mark in before.marks if mark in far.marks]
    assert len(shared) >= 2
    pieces = 1 + len(turns)
    assert pieces - place_of(shared[-1], turns) <= 2 * len(more)


def place_of(mark: prefix_chain.Mark, turns: list[tuple[str, int, str]]) -> int:
    """Return after how many turns of the conversation a mark is, the first question included."""
    return next(
        count + 1
        for count in range(len(turns) + 1)
        if chat(*messages_of(turns[:count])).marks[-1] == mark
    )


def test_accounts_share_no_links_unless_they_share_slots() -> None:
    prefix = chat(SYSTEM, FIRST)
    assert not set(digests(prefix, 1)) & set(digests(prefix, 2))
    shared = PrefixChains(Secret("a pepper of the tests"), shared=True)
    assert shared.links(prefix, 1) == shared.links(prefix, 2)


@pytest.mark.parametrize("isolation", ["account", "shared"])
def test_the_gateway_shares_links_as_its_settings_say(worker_app: Flask, isolation: str) -> None:
    settings = replace(make_settings(), slot_isolation=isolation)
    chains = Gateway(worker_app, settings).prefix_chains
    prefix = chat(SYSTEM, FIRST)
    assert (chains.links(prefix, 1) == chains.links(prefix, 2)) == (isolation == "shared")


def test_installations_share_no_links() -> None:
    prefix = chat(SYSTEM, FIRST)
    other = PrefixChains(Secret("another pepper of the tests"))
    assert not set(other.links(prefix, 1)) & set(CHAINS.links(prefix, 1))


BY_NAME: dict[str, Callable[[str], list[str]]] = {
    "header": lambda name: digests(chat(SYSTEM, FIRST), session=name),
    "chat": lambda name: digests(chat(SYSTEM, FIRST, prompt_cache_key=name)),
    "responses": lambda name: digests(
        parse_responses(
            json.dumps(
                {
                    "instructions": SYSTEM["content"],
                    "input": FIRST["content"],
                    "prompt_cache_key": name,
                }
            ).encode()
        )[0].prefix
    ),
}


@pytest.mark.parametrize("kind", BY_NAME)
def test_a_session_tells_apart_conversations_that_begin_alike(kind: str) -> None:
    plain = digests(chat(SYSTEM, FIRST))
    one, other = BY_NAME[kind]("a"), BY_NAME[kind]("b")
    assert one[:-1] == other[:-1] == plain
    assert one[-1] != other[-1]
    links = CHAINS.links(chat(SYSTEM, FIRST), 1, "a")
    assert links[-1].tokens == links[-2].tokens


def test_the_body_names_the_session_before_the_headers() -> None:
    named = chat(SYSTEM, FIRST, prompt_cache_key="body")
    assert digests(named, session="header") == digests(chat(SYSTEM, FIRST), session="body")


def test_subagents_of_a_session_share_only_their_system_prompt() -> None:
    one = digests(chat(SYSTEM, FIRST), session="a")
    other = digests(chat(SYSTEM, asked("Else? " * 99)), session="a")
    assert set(one) & set(other) == {one[0]}


def test_the_session_is_recognized_in_later_turns() -> None:
    twin = digests(chat(SYSTEM, FIRST), session="a")[-1]
    later = digests(chat(SYSTEM, FIRST, said("Yes."), asked("Go on.")), session="a")
    assert later[2] == twin and len(later) == 4


def test_a_name_of_the_wrong_type_is_refused() -> None:
    for name in (5, "x" * 1025):
        with pytest.raises(InvalidRequest, match="prompt_cache_key"):
            chat(FIRST, prompt_cache_key=name)
