"""Receipts of single requests for people: a list, newest first, and outcomes in words."""

from dataclasses import dataclass

from sqlalchemy import select

from promptly import labels
from promptly.extensions import db
from promptly.models import ApiKey, UsageEvent
from promptly.prices import Price
from promptly.request_ids import public_id
from promptly.services.ledger.balances import iso
from promptly.services.paging import START, Cursor, Page, newest_first
from promptly.services.usage import rollups


@dataclass(frozen=True)
class Receipt:
    """One request as shown; moments in ISO 8601, durations in milliseconds."""

    request_id: str
    created_at: str
    endpoint: str
    model: str
    outcome: str
    label: str
    colour: str
    sentence: str
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int
    price: Price
    charged_tokens: int
    trial_tokens: int
    paid_tokens: int
    uncharged_tokens: int
    balance_tokens: int
    time_to_first_token_ms: int | None
    duration_ms: int
    key_id: int | None

    @property
    def tokens_per_second(self) -> float | None:
        """Generation speed after the first token; None if too short to be meaningful."""
        first = self.time_to_first_token_ms
        if first is None or self.completion_tokens < 2 or self.duration_ms <= first:
            return None
        return (self.completion_tokens - 1) * 1000 / (self.duration_ms - first)

    @classmethod
    def of(cls, event: UsageEvent) -> "Receipt":
        """Build the receipt of a usage event."""
        colour, sentence = labels.note(event.outcome)
        return cls(
            request_id=public_id(event.request_id),
            created_at=iso(event.created_at) or "",
            endpoint=event.endpoint,
            model=event.model,
            outcome=event.outcome,
            label=labels.plain(labels.OUTCOMES, event.outcome),
            colour=colour,
            sentence=sentence,
            prompt_tokens=event.prompt_tokens,
            cached_prompt_tokens=event.cached_prompt_tokens,
            completion_tokens=event.completion_tokens,
            price=event.price_version.price,
            charged_tokens=event.charged_paid + event.charged_trial,
            trial_tokens=event.charged_trial,
            paid_tokens=event.charged_paid,
            uncharged_tokens=event.uncharged_tokens,
            balance_tokens=event.balance_tokens,
            time_to_first_token_ms=event.time_to_first_token_ms,
            duration_ms=event.duration_ms,
            key_id=event.key_id,
        )


def read(user_id: int, request_id: str) -> Receipt:
    """Return the receipt of one request of this account, by its public id; raises NotFound."""
    return Receipt.of(rollups.find_event(user_id, request_id))


def history(user_id: int, limit: int, before: str | None = None) -> Page[Receipt]:
    """Return a page of an account's receipts, newest first, from the start or after `before`.

    Raises NotFound if `before` is not the id of a request of this account.
    """
    at = START
    if before is not None:
        last = rollups.find_event(user_id, before)
        at = Cursor((last.created_at, last.request_id))
    query = select(UsageEvent).where(UsageEvent.user_id == user_id)
    key = (UsageEvent.created_at, UsageEvent.request_id)
    return newest_first(query, key, limit, at).map(Receipt.of)


def key_names(user_id: int, key_ids: set[int | None]) -> dict[int | None, str]:
    """Return the names of an account's keys by id; unknown keys are missing."""
    known = [key_id for key_id in key_ids if key_id is not None]
    if not known:
        return {}
    query = select(ApiKey.id, ApiKey.name).where(ApiKey.id.in_(known), ApiKey.user_id == user_id)
    return {row[0]: row[1] for row in db.session.execute(query)}
