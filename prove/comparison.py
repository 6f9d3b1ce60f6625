"""The rows about accounts, payments and webhooks, and the whole table."""

from collections import Counter
from collections.abc import Mapping

from promptly.packs import Pack
from prove import charges
from prove.evidence import Evidence
from prove.table import Row


def compare(evidence: Evidence, packs: Mapping[str, Pack]) -> list[Row]:
    """Return the whole table; `packs` are the packs on sale, by name."""
    return [
        *charges.rows(evidence),
        *_accounts(evidence, packs),
        *_payments(evidence, packs),
        *_webhooks(evidence),
        _none("differences that `flask ledger verify` found", evidence.verify_differences),
    ]


def _accounts(evidence: Evidence, packs: Mapping[str, Pack]) -> list[Row]:
    expected = Counter(evidence.opening)
    paid = {payment.number for payment in evidence.payments if payment.is_paid}
    for purchase in evidence.purchases:
        if purchase.number in paid:
            expected[purchase.user_id] += packs[purchase.pack].tokens - purchase.tokens_taken
    for charge in evidence.charges:
        expected[charge.user_id] -= charge.tokens
    balances = evidence.balances
    overdrawn = sum(tokens < 0 for tokens in [*expected.values(), *balances.values()])
    everybody = sorted({*expected, *balances})
    differing = [each for each in everybody if expected[each] != balances.get(each, 0)]
    return [
        _none(f"overdrawn balances, in {evidence.looks:,} looks", evidence.overdrawn + overdrawn),
        Row(
            "tokens of all balances: opening + bought - taken back - charged",
            sum(expected.values()),
            sum(balances.values()),
            sum(abs(expected[each] - balances.get(each, 0)) for each in differing),
            details=[
                f"account {each}: expected {expected[each]}, found {balances.get(each, 0)}"
                for each in differing
            ],
        ),
        _none("open holds", evidence.open_holds),
    ]


def _payments(evidence: Evidence, packs: Mapping[str, Pack]) -> list[Row]:
    paid = {payment.number: payment for payment in evidence.payments if payment.is_paid}
    credited = {each.number for each in evidence.purchases if each.credits}
    sold = {each.number: packs[each.pack] for each in evidence.purchases}
    bought = {number: sold[number].tokens for number in paid if number in sold}
    tokens = {each.number: each.credited_tokens for each in evidence.purchases}
    reversed_tokens = {
        # Rounded down, all of them for the whole price (docs/operating/payments.md).
        number: tokens * paid[number].reversed_minor // sold[number].amount_minor
        for number, tokens in bought.items()
    }
    back = {each.number: each.tokens_taken + each.tokens_owed for each in evidence.purchases}
    return [
        Row(
            "packs paid, credited",
            len(paid),
            len(credited),
            len(set(paid) ^ credited),
            details=sorted(set(paid) ^ credited),
        ),
        _sums("  their tokens", bought, tokens),
        _none("packs credited twice", sum(each.credits > 1 for each in evidence.purchases)),
        _sums("tokens of refunds and disputes, taken back or owed", reversed_tokens, back),
    ]


def _webhooks(evidence: Evidence) -> list[Row]:
    unprocessed = [
        f"{provider} {event}: {state}"
        for (provider, event), state in evidence.inbox.items()
        if state in ("pending", "parked")
    ]
    # The inbox may have more: reconciliation reads Stripe's own list of events.
    missing = evidence.sent - set(evidence.inbox)
    return [
        Row(
            "webhook events sent, recorded",
            len(evidence.sent),
            len(evidence.sent) - len(missing),
            len(missing),
            details=[" ".join(each) for each in sorted(missing)],
        ),
        Row(
            "webhook events not processed",
            0,
            len(unprocessed),
            len(unprocessed),
            details=unprocessed,
        ),
    ]


def _sums(title: str, expected: Mapping[str, int], found: Mapping[str, int]) -> Row:
    """Compare sums, and add up the deviations of single purchases."""
    deviations = {each: expected.get(each, 0) - found.get(each, 0) for each in {*expected, *found}}
    return Row(
        title,
        sum(expected.values()),
        sum(found.values()),
        sum(map(abs, deviations.values())),
        details=[f"{each}: {by}" for each, by in sorted(deviations.items()) if by],
    )


def _none(title: str, found: int) -> Row:
    return Row(title, 0, found, found)
