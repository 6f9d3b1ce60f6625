"""The models and their aliases."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from promptly.openapi.errors import ALWAYS, NO_MODEL, NO_URL
from promptly.openapi.operation import Operation, Parameter


class ModelMeta(Struct):
    """`n_ctx` is the context length in tokens, prompt and answer together, if it is known.

    `alias_of` is the model that another name stands for; models have no such field.
    """

    n_ctx: int | UnsetType = UNSET
    alias_of: str | UnsetType = UNSET


Decimal = Annotated[str, Meta(pattern="^[0-9]+([.][0-9]{1,2})?$")]


class Pricing(Struct):
    """Tokens of the balance that one token of each kind costs, as exact decimals.

    The charge of a request is rounded up once. The names are not those of APIs whose prices are in
    a currency (`prompt`, `completion`), so that no client takes tokens for dollars.
    """

    input: Decimal
    cached_input: Decimal
    output: Decimal


class Model(Struct):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    meta: ModelMeta
    pricing: Pricing


class ModelList(Struct):
    object: Literal["list"]
    data: list[Model]


ANTHROPIC = "With the header `anthropic-version`, answers and errors are in Anthropic's format."

OPERATIONS = (
    Operation(
        method="get",
        path="/v1/models",
        name="listModels",
        schema_prefix="Model",
        tag="Models",
        summary="List the models",
        description=ANTHROPIC,
        answer=ModelList,
        answer_text="The models in service and their aliases; empty while there are none.",
        faults=ALWAYS,
    ),
    Operation(
        method="get",
        path="/v1/models/{name}",
        name="getModel",
        schema_prefix="Model",
        tag="Models",
        summary="Get one model",
        description=ANTHROPIC,
        parameters=(
            Parameter(
                name="name",
                place="path",
                schema={"type": "string", "pattern": "^[^/\\n][^\\n]*$"},
                description="The model's id; it may contain slashes.",
            ),
        ),
        answer=Model,
        answer_text="The model.",
        faults=(*ALWAYS, NO_MODEL, NO_URL),
    ),
)
