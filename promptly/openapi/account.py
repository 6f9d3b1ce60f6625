"""Balance, usage and receipts."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from promptly.models.states import Outcome
from promptly.openapi.errors import ALWAYS, NO_ACCOUNT, NO_RECEIPT
from promptly.openapi.operation import Operation, Parameter

Tokens = Annotated[int, Meta(ge=0)]
Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Day = Annotated[str, Meta(extra_json_schema={"format": "date"})]


class Balance(Struct):
    """`available_tokens` is `trial_tokens` plus `paid_tokens`, less `reserved_tokens`."""

    object: Literal["balance"]
    available_tokens: Tokens
    trial_tokens: Tokens
    trial_expires_at: Moment | None
    paid_tokens: Tokens
    reserved_tokens: Tokens


class UsageKey(Struct):
    """A key by the name that its account gave it, and its first characters."""

    name: str
    prefix: str


class UsageRow(Struct, kw_only=True):
    """The totals of one group. Cached tokens are a part of the prompt's.

    It has those of `date` (in UTC), `key`, `model`, `endpoint` and `outcome` by which `group_by`
    groups. They are null for usage of which only the totals of a day and a model are known.
    """

    date: Day | UnsetType = UNSET
    key: UsageKey | UnsetType | None = UNSET
    model: str | UnsetType = UNSET
    endpoint: str | UnsetType | None = UNSET
    outcome: Outcome | UnsetType | None = UNSET
    requests: Tokens
    prompt_tokens: Tokens
    cached_prompt_tokens: Tokens
    completion_tokens: Tokens
    charged_tokens: Tokens


class UsageList(Struct, tag_field="object", tag="list"):
    """The groups with at least one request: the oldest day first, then the most charged."""

    data: list[UsageRow]


class Receipt(Struct, tag_field="object", tag="receipt"):
    """One settled request.

    `cached_prompt_tokens` are the part of the prompt that the model server had in its cache, from
    the account's own requests; `uncharged_tokens` are those that the balance did not cover. `price`
    is what a token of input, of cached input and of output cost, in hundredths of a token: charged
    and uncharged tokens together are the sum of the counts times their prices, divided by 100 and
    rounded up.
    """

    request_id: Annotated[str, Meta(pattern="^req_[0-9a-f]{32}$")]
    created_at: Moment
    endpoint: str
    model: str
    outcome: Outcome
    prompt_tokens: Tokens
    cached_prompt_tokens: Tokens
    completion_tokens: Tokens
    price: Annotated[str, Meta(pattern="^[0-9]+:[0-9]+:[0-9]+$")]
    charged_tokens: Tokens
    uncharged_tokens: Tokens
    balance_tokens: Tokens
    time_to_first_token_ms: Tokens | None
    duration_ms: Tokens | None


GROUP = "day|key|model|endpoint|outcome"
_DAY = {"type": "string", "format": "date", "pattern": "^2[0-9]{3}-"}

OPERATIONS = (
    Operation(
        method="get",
        path="/v1/balance",
        name="getBalance",
        schema_prefix="Account",
        tag="Account",
        summary="Get the balance",
        answer=Balance,
        answer_text="The balance, in tokens.",
        faults=(*ALWAYS, NO_ACCOUNT),
    ),
    Operation(
        method="get",
        path="/v1/usage",
        name="getUsage",
        schema_prefix="Account",
        tag="Account",
        summary="Get usage by day, key, model, endpoint or outcome, or the receipt of one request",
        description=(
            "Totals from `start` to `end` or, with `request_id`, the receipt of one request. "
            "A request that is still running is in no total and has no receipt yet."
        ),
        parameters=(
            Parameter(
                name="start",
                place="query",
                schema=_DAY,
                description="First day, in UTC. Default: 29 days before `end`.",
            ),
            Parameter(
                name="end",
                place="query",
                schema=_DAY,
                description="Last day, inclusive; at most 366 days in total. Default: today.",
            ),
            Parameter(
                name="group_by",
                place="query",
                schema={
                    "type": "string",
                    "pattern": f"^({GROUP})(,({GROUP}))*$",
                    "example": "key,model",
                },
                description="One or more of day, key, model, endpoint, outcome. Default: day.",
            ),
            Parameter(
                name="key",
                place="query",
                schema={"type": "string", "example": "laptop"},
                description="Only requests with this key: its name, or its first characters.",
            ),
            Parameter(
                name="model",
                place="query",
                schema={"type": "string"},
                description="Only requests that this model answered.",
            ),
            Parameter(
                name="request_id",
                place="query",
                schema={"type": "string", "example": "req_019ab1c2d3e4f5061728394a5b6c7d8e"},
                description="The id from `x-promptly-request-id`; overrides all others.",
            ),
        ),
        answer=UsageList | Receipt,
        answer_text="The totals, or the receipt.",
        faults=(*ALWAYS, NO_RECEIPT),
    ),
)
