"""What the metered path needs to know of a request for generated text, whatever its API."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

# Sends a body to a path of upstream; returns the decoded answer.
Call = Callable[[str, bytes], Any]


class Input(Protocol):
    """What upstream is sent, and can count the tokens of.

    `path` is where it goes, and `optional` whether a model server may do without that endpoint.
    `param` is its place in the client's body, `advice` what to check when upstream refuses it.
    """

    path: ClassVar[str]
    optional: ClassVar[bool]
    advice: ClassVar[str]

    @property
    def param(self) -> str: ...

    def count(self, call: Call) -> int:
        """Its size in tokens, asked of upstream by `call`."""


class Prompt(Input, Protocol):
    """One prompt, answered by one request to upstream; `prompt_bound` is at least its tokens."""

    @property
    def prompt_bound(self) -> int: ...

    def upstream_body(self, max_tokens: int | None) -> bytes:
        """The body for a streamed answer of at most `max_tokens`."""


class GenerationRequest(Protocol):
    """A checked request: prompts that are answered one after the other, and what is asked of all.

    `max_tokens` is the limit of each answer.
    """

    stream: bool
    include_usage: bool
    max_tokens: int | None
    ignored: tuple[str, ...]

    @property
    def prompts(self) -> Sequence[Prompt]:
        """The prompts, at least one, in the order of their answers."""
