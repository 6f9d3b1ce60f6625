"""The first hold of a request whose key is looked up in the same statement."""

import uuid

from psycopg2.errors import UniqueViolation

from promptly.errors import ServiceUnavailable
from promptly.prices import Price
from promptly.services.accounts.authentication import Caller
from promptly.services.accounts.authentication import Database as Readable
from promptly.services.metering import sql
from promptly.services.metering.placing import Hold


def admit_hold(
    database: Readable,
    caller: Caller,
    *,
    request_id: uuid.UUID,
    endpoint: str,
    model: str,
    tokens: int,
    max_open_holds: int,
    price: Price,
) -> Hold | None:
    """Authenticate an unproven caller and hold `tokens`; on success the caller is proven.

    Returns None, with nothing held, if the key has limits, a trial covers only a part, what is
    remembered of the caller has changed, or anything stands against the request: `authenticate`
    and `place_hold` then say what. `max_open_holds` applies to accounts without a number of their
    own.
    """
    terms = {
        "request_id": str(request_id),
        "user_id": caller.user_id,
        "key_id": caller.key_id,
        "endpoint": endpoint,
        "model": model,
        "wanted": tokens,
        "minimum": tokens,
        "max_open_holds": max_open_holds,
        "price_id": price.id,
        "silent_of_key": 0,
    }
    remembered = {
        "key_hash": caller.unproven_key_hash,
        "batch": caller.batch,
        "pays": caller.pays,
    }
    try:
        row = database.look_up(sql.ADMIT, terms | remembered)
    except UniqueViolation:
        # Repeated on another connection, after the first had broken: it had placed the hold, which
        # recovery ends.
        raise ServiceUnavailable from None
    if row is None or row[0] is None:
        return None
    caller.unproven_key_hash = None
    caller.available_tokens = row[0]
    return Hold(request_id, tokens, has_all=tokens == row[0], price=price, terms=terms)
