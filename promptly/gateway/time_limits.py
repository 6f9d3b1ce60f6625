"""How long a request may take: to its first token, between tokens, in all.

Waiting for a slot has its limit in `relay`, connecting in the client. Before the first token the
limit is long, because prompts of 250,000 tokens take minutes; in the queue none of upstream's
counts.
"""

from promptly.errors import UpstreamTimeout
from promptly.gateway.live import LiveRequest
from promptly.settings import Settings


def overdue(live: LiveRequest, now: float, settings: Settings) -> str | None:
    """The outcome a request has to end with at `now` (monotonic seconds), if any."""
    if now - live.started_at > settings.request_timeout_seconds:
        return "timeout"
    if live.writing_since is not None:
        # The client has stopped reading; it holds a slot that others wait for.
        late = now - live.writing_since > settings.upstream_idle_timeout_seconds
        return "client_disconnected" if late else None
    if live.stream is None:
        return None
    silent = now - live.touched_at
    if live.reader.completion_tokens:
        return "timeout" if silent > settings.upstream_idle_timeout_seconds else None
    return "timeout" if silent > _first_byte_seconds(live, settings) else None


def timeout_error(live: LiveRequest, now: float, settings: Settings) -> UpstreamTimeout:
    """What a client is told whose request ended with the outcome `timeout`."""
    if now - live.started_at > settings.request_timeout_seconds:
        return UpstreamTimeout(
            f"The request took longer than {settings.request_timeout_seconds} s, the most "
            "that is allowed here. A limit on its output tokens makes an answer shorter."
        )
    if live.reader.completion_tokens:
        return UpstreamTimeout(
            "The model server stopped sending for "
            f"{settings.upstream_idle_timeout_seconds} s in the middle of its answer."
        )
    return UpstreamTimeout(
        "The model server did not begin its answer within "
        f"{_first_byte_seconds(live, settings)} s. A shorter prompt starts sooner."
    )


def _first_byte_seconds(live: LiveRequest, settings: Settings) -> int:
    return live.first_byte_seconds or settings.upstream_first_byte_timeout_seconds
