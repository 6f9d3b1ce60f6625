from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from promptly.errors import InvalidRequest, NotFound
from promptly.services import audit
from promptly.services.audit import Operator
from promptly.services.ledger import adjustments, ledger, verification
from tests.support import factories

OPERATOR = Operator("panel", "100.64.0.1")


def test_an_act_is_in_the_ledger_and_in_the_log(session: Session) -> None:
    user_id = factories.user(paid_tokens=100).id
    credit = adjustments.adjust(user_id, -30, operator=OPERATOR)
    assert (credit.change.applied_delta, credit.change.paid_tokens) == (-30, 70)
    [entry] = audit.entries().rows
    assert entry.id == credit.entry_id and entry.address == "100.64.0.1"
    assert entry.before is not None and entry.after is not None
    assert (entry.before["paid_tokens"], entry.after["paid_tokens"]) == (100, 70)
    newest = ledger.entries(user_id)[0]
    assert (newest.paid_delta, newest.actor, newest.reference) == (-30, "panel", None)
    assert verification.verify() == []


def test_a_repeat_is_answered_as_the_first_was(session: Session) -> None:
    user_id = factories.user().id
    first = adjustments.grant(user_id, 50, 7, operator=OPERATOR, reference="a")
    adjustments.adjust(user_id, 5, operator=OPERATOR)
    again = adjustments.grant(user_id, 50, 7, operator=OPERATOR, reference="a")
    assert again.entry_id == first.entry_id
    assert (again.change.applied_delta, again.change.trial_tokens) == (50, 50)
    assert again.change.paid_tokens == 5, "the balance is the present one"
    assert len(audit.entries().rows) == 2


def test_an_expired_trial_goes_first(session: Session) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    user_id = factories.user(trial_tokens=80, trial_expires_at=past).id
    credit = adjustments.grant(user_id, 10, 1, operator=OPERATOR)
    assert credit.change.trial_tokens == 10
    entry = audit.find(credit.entry_id or 0)
    assert entry is not None and entry.before is not None
    assert entry.before["trial_tokens"] == 0
    assert verification.verify() == []


def test_impossible_adjustments(session: Session) -> None:
    with pytest.raises(NotFound):
        adjustments.adjust(4711, 1, operator=OPERATOR)
    user_id = factories.user(paid_tokens=2**63 - 10).id
    with pytest.raises(InvalidRequest) as caught, session.begin_nested():
        adjustments.adjust(user_id, 11, operator=OPERATOR)
    assert caught.value.param == "delta"
