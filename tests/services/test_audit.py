import re
from pathlib import Path

from sqlalchemy.orm import Session

from promptly.clock import utcnow
from promptly.services import audit
from promptly.services.audit import Operator
from promptly.services.paging import Cursor
from tests.support import factories


def test_entries_are_found_by_account_and_act(session: Session) -> None:
    operator = Operator("panel", "100.64.0.1")
    user_id = factories.user().id
    first = operator.record("balance.adjust", user_id=user_id, before={"paid_tokens": 1})
    second = operator.record("key.revoke", user_id=user_id, subject="7")
    third = operator.record("key.revoke", user_id=user_id + 1, subject="8")
    numbers = [row.id for row in audit.entries().rows]
    assert numbers == [third, second, first]
    assert [row.id for row in audit.entries(user_id=user_id).rows] == [second, first]
    assert [row.id for row in audit.entries(action="key.revoke").rows] == [third, second]
    page = audit.entries(1, at=Cursor(third), user_id=user_id)
    assert [row.id for row in page.rows] == [second] and page.next is not None
    assert audit.find_act("key.revoke", user_id, "7") == second
    assert audit.find_act("key.revoke", user_id, "8") is None


def test_moments_are_kept_as_text(session: Session) -> None:
    number = Operator("api").record("balance.grant", after={"trial_expires_at": utcnow(), "n": 1})
    session.expire_all()
    entry = audit.find(number)
    assert entry is not None and entry.after is not None
    assert re.fullmatch(r"[\d-]+T[\d:]+Z", entry.after["trial_expires_at"])


def test_an_entry_outlives_its_account(session: Session) -> None:
    user = factories.user()
    audit.record("account.delete", actor="cli:root", user_id=user.id)
    user_id = user.id
    session.delete(user)
    session.flush()
    assert [row.action for row in audit.entries(user_id=user_id).rows] == ["account.delete"]


def test_every_act_can_be_searched_for(project: Path) -> None:
    recorded = set()
    for path in (project / "promptly").rglob("*.py"):
        if path.parent.name in {"admin", "cli"}:
            recorded |= set(re.findall(r'(?:record|_done)\(\s*"(\w+\.\w+)"', path.read_text()))
    assert recorded and recorded <= set(audit.ACTIONS)
    assert sorted(audit.ACTIONS) == list(audit.ACTIONS)
