"""Health, for load balancers and operators."""

from typing import Literal

from msgspec import Struct

from promptly.openapi.operation import Operation


class Health(Struct):
    status: Literal["ok"]


OPERATIONS = (
    Operation(
        method="get",
        path="/health",
        name="getHealth",
        room="Health",
        tag="Health",
        summary="Whether the process lives",
        answer=Health,
        answer_text="It does.",
        needs_key=False,
    ),
    Operation(
        method="get",
        path="/health/ready",
        name="getReadiness",
        room="Health",
        tag="Health",
        summary="Whether every dependency answers",
        text="One line for each dependency: `postgresql: ok`, `redis: away`, ….",
        also=(503,),
        needs_key=False,
    ),
)
