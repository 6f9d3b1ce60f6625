"""Which servers of a model have room for a request, where their contexts differ (ADR 33).

A server has room if the prompt and the answer's declared maximum fit; without a maximum, if the
answer has half of the context. What no server has room for goes to the longest contexts.
"""

from collections.abc import Sequence

from promptly.gateway.slots.requests import NONE
from promptly.gateway.upstream import Upstream

# Hardly any text has more bytes per token: counting would not find room for it.
_MOST_BYTES_PER_TOKEN = 8


def too_small(
    upstreams: Sequence[Upstream], prompt_tokens: int, max_tokens: int | None
) -> frozenset[str]:
    """Return the names of the upstreams that have no room, but others have more."""
    if len(upstreams) < 2:
        return NONE
    longest = max(up.n_ctx for up in upstreams)
    return (
        frozenset(
            up.name
            for up in upstreams
            if up.n_ctx < longest and not _has_room(up, prompt_tokens, max_tokens)
        )
        or NONE
    )


def doubtful_sizes(
    upstreams: Sequence[Upstream], bounds: Sequence[int], max_tokens: int | None
) -> list[int]:
    """Return the numbers of the prompts that may have room where their upper bounds have none."""
    if len(upstreams) < 2 or len({up.n_ctx for up in upstreams}) < 2:
        return []
    return [
        number
        for number, bound in enumerate(bounds)
        if too_small(upstreams, bound, max_tokens)
        != too_small(upstreams, bound // _MOST_BYTES_PER_TOKEN, max_tokens)
    ]


def _has_room(upstream: Upstream, prompt_tokens: int, max_tokens: int | None) -> bool:
    output = upstream.n_ctx // 2 if max_tokens is None else max_tokens
    return prompt_tokens + output <= upstream.n_ctx
