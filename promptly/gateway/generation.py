"""Interfaces that the metered path needs from a checked request, whatever its API."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

# Sends a body to an upstream path; returns the decoded answer.
Call = Callable[[str, bytes], Any]


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
    """One prompt, answered by one upstream request; `prompt_bound` is an upper bound in tokens."""

    @property
    def prompt_bound(self) -> int: ...

    def upstream_body(self, max_tokens: int | None) -> bytes:
        """Build the body for a streamed answer of at most `max_tokens`."""


class GenerationRequest(Protocol):
    """A checked request: prompts answered one after the other, and the options that they share.

    `max_tokens` limits each answer.
    """

    stream: bool
    include_usage: bool
    max_tokens: int | None
    ignored: tuple[str, ...]

    @property
    def prompts(self) -> Sequence[Prompt]:
        """At least one prompt, in the order of the answers."""
