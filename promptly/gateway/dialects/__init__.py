"""The APIs that clients speak, one package each.

A dialect checks the client's JSON and rewrites it: a chat as a `ChatRequest`, plain text as one
body per prompt. On the way back it converts upstream's chunks to the format of its API. Holding,
relaying and settling do not depend on it.
"""

from collections.abc import Callable
from typing import Any, Protocol

from promptly.errors import PromptlyError

Chunk = dict[str, Any]
# Takes one decoded chunk; returns the bytes that the client gets for it at once.
Sink = Callable[[Chunk], bytes]


class WholeAnswer(Protocol):
    """An answer that is collected and sent as one JSON object."""

    def add(self, chunk: Chunk) -> bytes:
        """Add one of upstream's chunks; returns no bytes, as nothing is sent yet."""

    def build(self) -> dict[str, Any]:
        """Build the object, once upstream has ended."""


class StreamedAnswer(Protocol):
    """An answer that is sent as it is generated."""

    @property
    def sink(self) -> Sink | None:
        """Converts each chunk to the client's events; None to pass upstream's own events on."""

    def end(self) -> bytes:
        """Return the bytes that follow upstream's last chunk."""

    def failed(self, problem: PromptlyError) -> bytes:
        """Return the bytes that end a stream which fails after its first bytes."""
