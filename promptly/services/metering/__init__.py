"""Metering: hold tokens before a request runs, settle it once when it ends.

    place_hold ──► open ──► adjust_hold, checkpoint ──► settle ─────► settled
                     └──── process died ──► recover ──► recovered ──► settle_late ─► settled

Each step is one statement and so one short transaction; the SQL is in `sql` and in
`migrations/functions`. `admission`, `placing` and `holds` contain the steps of a running request,
`recovery` those of the sweep and of late settlements; `running` lists open holds for operators.
"""

from promptly.services.metering.admission import admit_hold
from promptly.services.metering.holds import (
    Charge,
    RunningCounts,
    Settlement,
    checkpoint,
    settle,
    settle_many,
)
from promptly.services.metering.placing import (
    Hold,
    MovedHold,
    adjust_hold,
    place_hold,
    place_lost_hold,
    require_tokens,
)

__all__ = [
    "Charge",
    "Hold",
    "MovedHold",
    "RunningCounts",
    "Settlement",
    "adjust_hold",
    "admit_hold",
    "checkpoint",
    "place_hold",
    "place_lost_hold",
    "require_tokens",
    "settle",
    "settle_many",
]
