"""Servers of one model whose contexts differ: which ones a request avoids."""

import pytest

from promptly.clients.llama import LlamaClient
from promptly.gateway.context_lengths import doubtful_sizes, too_small
from promptly.gateway.upstream import Upstream
from promptly.secret import Secret


def servers(*lengths: int) -> list[Upstream]:
    return [
        Upstream(LlamaClient(f"http://{n_ctx}", Secret(""), 1), n_ctx=n_ctx, slots=1)
        for n_ctx in lengths
    ]


@pytest.mark.parametrize(
    ("prompt_tokens", "max_tokens", "avoided"),
    [
        (100, 900, set()),
        (100, 901, {1000}),
        (100, 1900, {1000}),
        (100, 3900, {1000, 2000}),
        # No server has room: those with the longest context.
        (100, 9000, {1000, 2000}),
        (5000, 1, {1000, 2000}),
        # Without a maximum, half of the context is for the answer.
        (500, None, set()),
        (501, None, {1000}),
        (1001, None, {1000, 2000}),
    ],
)
def test_which_servers_are_avoided(
    prompt_tokens: int, max_tokens: int | None, avoided: set[int]
) -> None:
    expected = {f"http://{n_ctx}" for n_ctx in avoided}
    assert too_small(servers(1000, 2000, 4000), prompt_tokens, max_tokens) == expected


def test_equal_servers_are_never_avoided() -> None:
    assert too_small(servers(1000, 1000), 5000, 5000) == frozenset()
    assert too_small([], 1, 1) == frozenset()
    assert doubtful_sizes(servers(1000, 1000), [5000], 10) == []


def test_prompts_are_counted_only_where_that_may_find_room() -> None:
    # Without doubt small; perhaps; without doubt large; with an answer that is too long anyway.
    assert doubtful_sizes(servers(1000, 9000), [100, 1200, 9000], 10) == [1]
    assert doubtful_sizes(servers(1000, 9000), [1200], 1000) == []
