"""Health checks, for load balancers and operators."""

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
        schema_prefix="Health",
        tag="Health",
        summary="Check that the process is alive",
        answer=Health,
        answer_text="The process is alive.",
        needs_key=False,
    ),
    Operation(
        method="get",
        path="/health/ready",
        name="getReadiness",
        schema_prefix="Health",
        tag="Health",
        summary="Check that every dependency responds",
        text=(
            "One line per dependency: `postgresql: ok`, `redis: away`, …. PostgreSQL has one for "
            "each connection pool, which may be `exhausted`. The lines `worker` and "
            "`beat` say whether these were seen in the last minute; they do not change the status."
        ),
        also=(503,),
        needs_key=False,
    ),
)
