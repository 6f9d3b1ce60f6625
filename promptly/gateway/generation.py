"""Interfaces that the metered path needs from a checked request, whatever its API."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

from promptly.gateway.prefix_chain import Prefix

# Sends a body to an upstream path; returns the decoded answer.
Call = Callable[[str, bytes], Any]

# No token of a model that generates text has more: the longest of usual vocabularies, runs of
# spaces or dashes, have 128 bytes.
MAX_TOKEN_BYTES = 512


class Input(Protocol):
    """Input that upstream processes, and whose tokens it can count.

    `path` is the upstream endpoint, `optional` whether a model server may lack it. `param` is the
    input's place in the client's body, `advice` the client's hint when upstream refuses it.
    """

    path: ClassVar[str]
    optional: ClassVar[bool]
    advice: ClassVar[str]

    @property
    def param(self) -> str: ...

    def count(self, call: Call) -> int:
        """Return the input's size in tokens, counted by upstream through `call`."""


class Prompt(Input, Protocol):
    """One prompt, answered by one upstream request.

    `prompt_bound` is an upper bound in tokens, `fewest_tokens` a lower one.
    """

    @property
    def prompt_bound(self) -> int: ...

    @property
    def fewest_tokens(self) -> int: ...

    @property
    def prefix(self) -> Prefix: ...

    def upstream_body(self, max_tokens: int | None, slot: bytes = b"") -> bytes:
        """Build the body for a streamed answer of at most `max_tokens`.

        `slot` has the JSON fields that choose the slot, each after a comma.
        """

    def drop_text(self) -> None:
        """Free the memory of the text; neither `upstream_body` nor `count` is called again."""


class GenerationRequest(Protocol):
    """A checked request: prompts answered one after the other, and the options that they share.

    `model` is the name that the client gave, or empty; `max_tokens` limits each answer.
    """

    model: str
    stream: bool
    include_usage: bool
    max_tokens: int | None
    ignored: tuple[str, ...]

    @property
    def prompts(self) -> Sequence[Prompt]:
        """At least one prompt, in the order of the answers."""


def fewest_tokens(text: str) -> int:
    """Return a lower bound of a text's tokens; templates may strip space from its ends."""
    return len(text.strip()) // MAX_TOKEN_BYTES
