import pytest
from sqlalchemy.orm import Session

from promptly.errors import InvalidRequest, NotFound
from promptly.models import ApiKey
from promptly.models.states import MailState
from promptly.services.accounts import mail_actions
from promptly.services.mail import outbox
from tests.support import factories


def test_cancelling_revokes_the_key_that_an_attempt_has_made(session: Session) -> None:
    user = factories.user()
    mail = factories.mail(user_id=user.id)
    key, _ = factories.api_key(user.id)
    key.outbox_id = mail.id
    other, _ = factories.api_key(user.id)
    session.flush()
    assert mail_actions.cancel(mail.id).state == "cancelled"
    session.expire_all()
    assert session.get_one(ApiKey, key.id).revoked_at is not None
    assert session.get_one(ApiKey, other.id).revoked_at is None


@pytest.mark.parametrize("state", [MailState.SENT, MailState.FAILED, MailState.CANCELLED])
def test_only_pending_mail_is_cancelled(session: Session, state: MailState) -> None:
    mail = factories.mail()
    mail.state = state
    session.flush()
    with pytest.raises(InvalidRequest, match="already been sent"):
        mail_actions.cancel(mail.id)
    assert mail_actions.resend(mail.id).state == "pending"


def test_there_must_be_such_a_mail(session: Session) -> None:
    for act in (mail_actions.cancel, mail_actions.resend, outbox.find):
        with pytest.raises(NotFound):
            act(12345)


def test_lists_are_filtered(session: Session) -> None:
    user = factories.user()
    own = factories.mail("receipt", user_id=user.id)
    own.payload = {"number": "P-1"}
    factories.mail()
    session.flush()
    assert outbox.page(user_id=user.id).rows == outbox.page(number="P-1").rows == [own]
    assert outbox.page(kind="receipt", state="pending").rows == [own]
    assert outbox.page(state="failed").rows == [] and outbox.count("pending") == 2
