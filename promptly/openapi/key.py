"""The key that a request carries: its limits, and what it has used of them."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from promptly.models.states import CapPeriod, KeyScope
from promptly.openapi.account import Moment, Tokens
from promptly.openapi.errors import ALWAYS, NO_KEY
from promptly.openapi.operation import Operation


class Cap(Struct):
    """Tokens that the key may spend per day, week (from Monday) or month in UTC, or in all.

    `left_tokens` are those neither used nor reserved by its running requests. `resets_at` is null
    for a cap of all time.
    """

    tokens: Annotated[int, Meta(ge=1)]
    per: CapPeriod
    used_tokens: Tokens
    reserved_tokens: Tokens
    left_tokens: Tokens
    resets_at: Moment | None


class Key(Struct):
    """A key; a limit that it does not have is null."""

    object: Literal["key"]
    name: str
    prefix: str
    scope: KeyScope
    batch: bool
    created_at: Moment
    expires_at: Moment | None
    models: list[str] | None
    addresses: list[str] | None
    concurrent_requests: Annotated[int, Meta(ge=1)] | None
    cap: Cap | None


OPERATIONS = (
    Operation(
        method="get",
        path="/v1/key",
        name="getKey",
        schema_prefix="Key",
        tag="Account",
        summary="Get the key's limits and their use",
        answer=Key,
        answer_text="The key that the request carries.",
        faults=(*ALWAYS, NO_KEY),
    ),
)
