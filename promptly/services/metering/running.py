"""Requests that run or wait right now, as operators see them: by their open holds."""

from dataclasses import dataclass

from sqlalchemy import func, select

from promptly.errors import NotFound
from promptly.extensions import db
from promptly.models import Hold, User
from promptly.request_ids import parse_id, public_id
from promptly.services.metering.recovery import STALE_SECONDS
from promptly.services.paging import START, Cursor, Page, oldest_first

MOST_OF_ACCOUNT = 20


@dataclass(frozen=True)
class OpenHold:
    """A hold with its account's address, its age and the time since its last checkpoint."""

    hold: Hold
    email: str | None
    age_seconds: int
    silent_seconds: int

    @property
    def request_id(self) -> str:
        """The public id of its request."""
        return public_id(self.hold.request_id)

    @property
    def is_stale(self) -> bool:
        """Whether its process counts as dead."""
        return self.silent_seconds > STALE_SECONDS


def page(limit: int, at: Cursor = START) -> Page[OpenHold]:
    """Return a page of open holds, oldest first: the ids of requests are in time order."""
    query = (
        select(
            Hold,
            User.email,
            func.extract("epoch", func.now() - Hold.created_at),
            func.extract("epoch", func.now() - Hold.checkpoint_at),
        )
        .outerjoin(User, User.id == Hold.user_id)
        .where(Hold.state == "open")
    )
    return oldest_first(query, Hold.request_id, limit, at).map(
        lambda row: OpenHold(row[0], row[1], int(row[2]), int(row[3]))
    )


def of_account(user_id: int) -> list[Hold]:
    """Return the first MOST_OF_ACCOUNT open holds of an account, oldest first."""
    query = select(Hold).where(Hold.user_id == user_id, Hold.state == "open")
    return list(db.session.scalars(query.order_by(Hold.created_at).limit(MOST_OF_ACCOUNT)))


def find(request_id: str) -> Hold:
    """Return the open hold of the request with this public id; raises NotFound."""
    parsed = parse_id(request_id)
    hold = None if parsed is None else db.session.get(Hold, parsed)
    if hold is None or hold.state != "open":
        raise NotFound("There is no such open hold.")
    return hold


def figures(hold: Hold) -> dict[str, int]:
    """Return the tokens that a hold reserves, and its counts as of the last checkpoint."""
    return {
        "held_tokens": hold.held_paid + hold.held_trial,
        "prompt_tokens": hold.prompt_tokens,
        "completion_tokens": hold.completion_tokens,
    }
