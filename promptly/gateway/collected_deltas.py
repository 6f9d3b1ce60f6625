"""Deltas of an answer that is sent as a whole: kept as they came, and parsed many at a time."""

import orjson

from promptly.gateway.dialects import Sink

# So much is kept, of which a token's text is about a hundredth.
MOST_BYTES = 64 * 1024


class CollectedDeltas:
    """Blocks of plain deltas on their way to a sink that returns no bytes."""

    __slots__ = ("_blocks", "_bytes", "_sink")

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._blocks: list[bytes] = []
        self._bytes = 0

    def add(self, block: bytes) -> None:
        """Keep a block of complete events, each of them `data: {...}` and nothing else."""
        self._blocks.append(block)
        self._bytes += len(block)
        if self._bytes >= MOST_BYTES:
            self.pass_on()

    def pass_on(self) -> None:
        """Give the sink all that was kept; raises what malformed events raise."""
        if not self._blocks:
            return
        events = b"".join(self._blocks)
        self._blocks.clear()
        self._bytes = 0
        # A line feed cannot be inside a JSON string, so this is between two events.
        for chunk in orjson.loads(b"[%b]" % events[6:-2].replace(b"\n\ndata: ", b",")):
            self._sink(chunk)
