"""The states of an order and the transitions between them.

    created ──► open ──► processing ──► paid ◄──► partly_refunded, refunded, disputed,
       │          │           │                    charged_back, invalid
       └──────────┴───────────┴──► expired, failed, attention

created       stored; whether the provider has created its page is not known yet
open          the provider's page waits for the customer
processing    the customer has paid, the money is on its way
attention     money came that does not match the order; an operator decides
expired, failed   ended without money; a late payment may still make it paid
paid          credited; from here refunds and disputes decide:
partly_refunded, refunded   refunded in part, or in full
disputed, charged_back      a dispute is open, or lost
invalid       BTCPay withdrew the payment
"""

from collections.abc import Mapping

CREDITED = ("paid", "partly_refunded", "refunded", "disputed", "charged_back", "invalid")
_WITHOUT_MONEY = ("expired", "failed")

_FROM_UNSETTLED = frozenset({"open", "processing", "attention", "paid", *_WITHOUT_MONEY})

TRANSITIONS: Mapping[str, frozenset[str]] = {
    "created": _FROM_UNSETTLED,
    "open": _FROM_UNSETTLED,
    # Back to open: a Bitcoin payment may be replaced before it is confirmed.
    "processing": _FROM_UNSETTLED,
    # Money that was never credited can be refunded too.
    "attention": frozenset({"paid", "refunded", *_WITHOUT_MONEY}),
    "expired": frozenset({"open", "processing", "attention", "paid", "refunded", "failed"}),
    "failed": frozenset({"open", "processing", "attention", "paid", "refunded", "expired"}),
    **{state: frozenset(CREDITED) for state in CREDITED},
    # Of money that was refunded without a credit more may come, or the refund may fail.
    "refunded": frozenset({*CREDITED, "attention"}),
}


def may_become(target: str) -> list[str]:
    """Return the states that `target` may follow, except itself."""
    return [state for state, targets in TRANSITIONS.items() if target in targets - {state}]
