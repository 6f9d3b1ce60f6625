"""The queue for the model's slots, as a key sees it."""

from typing import Annotated

from msgspec import Meta, Struct

from promptly.openapi.errors import ALWAYS
from promptly.openapi.operation import Operation

Seconds = Annotated[int, Meta(ge=0)]


class QueuedRequest(Struct, tag_field="object", tag="queued_request"):
    """A request that waits for a slot.

    `position` and `estimated_wait_seconds` are estimates: position 1 is next if nothing else
    arrives. The wait is null while nothing was measured.
    """

    request_id: Annotated[str, Meta(pattern="^req_[0-9a-f]{32}$")]
    model: str
    endpoint: str
    position: Annotated[int, Meta(ge=1)]
    estimated_wait_seconds: Seconds | None
    waiting_seconds: Seconds


class Queue(Struct, tag_field="object", tag="list"):
    """At most 100 requests, the next one first."""

    data: list[QueuedRequest]


OPERATIONS = (
    Operation(
        method="get",
        path="/v1/queue",
        name="listQueue",
        schema_prefix="Queue",
        tag="Queue",
        summary="List the key's waiting requests",
        description=(
            "The requests of this key that wait for a slot of a model server. A request is listed "
            "once it has waited for about a second."
        ),
        answer=Queue,
        answer_text="The waiting requests.",
        faults=ALWAYS,
    ),
)
