"""Metering: tokens are held before a request runs and settled, once, when it ends.

    place_hold ──► open ──► adjust_hold, checkpoint ──► settle ─────► settled
                     └──── process died ──► recover ──► recovered ──► settle_late ─► settled

Each step is one statement and so one short transaction; the SQL is in `statements` and in
`migrations/functions`. `holds` speaks the steps of a living request, `recovery` what the sweep and
late settlements do.
"""

from promptly.services.metering.holds import (
    Charge,
    Hold,
    Settlement,
    adjust_hold,
    checkpoint,
    place_hold,
    place_lost_hold,
    settle,
    settle_many,
)

__all__ = [
    "Charge",
    "Hold",
    "Settlement",
    "adjust_hold",
    "checkpoint",
    "place_hold",
    "place_lost_hold",
    "settle",
    "settle_many",
]
