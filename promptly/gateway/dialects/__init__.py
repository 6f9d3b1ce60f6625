"""The APIs that clients speak, each in a room of its own.

A dialect checks the client's JSON and writes it anew: a chat as a `ChatRequest`, plain text as one
body for each prompt. On the way back it makes of upstream's chunks what its clients expect.
Holding, relaying and settling know nothing of it.
"""

from collections.abc import Callable
from typing import Any, Protocol

from promptly.errors import PromptlyError

Chunk = dict[str, Any]
# Takes one decoded chunk; returns what the client gets of it at once.
Sink = Callable[[Chunk], bytes]


class WholeAnswer(Protocol):
    """An answer that is collected and sent as one JSON object."""

    def add(self, chunk: Chunk) -> bytes:
        """Take in one chunk of upstream's; nothing is sent yet."""

    def build(self) -> dict[str, Any]:
        """The object, once upstream has ended."""


class StreamedAnswer(Protocol):
    """An answer that is sent as it comes."""

    @property
    def sink(self) -> Sink | None:
        """What makes the client's events of each chunk; None when upstream's own go through."""

    def end(self) -> bytes:
        """What follows upstream's last chunk."""

    def failed(self, problem: PromptlyError) -> bytes:
        """What ends the stream when it fails after its first bytes."""
