"""Read model-gateway's database: one read-only snapshot, a batch of accounts at a time."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from promptly.errors import InvalidRequest
from promptly.services.imports.schema import TABLES

BATCH = 200
CONNECT_SECONDS = 10
# Timestamps without a zone are in UTC. The usage of a batch may be many rows.
_SET = "SET LOCAL timezone = 'UTC'; SET LOCAL statement_timeout = '600s'"

ID_TYPES = frozenset({"smallint", "integer", "bigint", "uuid", "text", "character varying"})
# A table that only a database of promptly has.
_OWN_TABLE = "ledger_entries"

_COLUMNS = """
SELECT table_name, column_name, data_type FROM information_schema.columns
WHERE table_schema = ANY(current_schemas(false)) AND table_name = ANY(%s)
"""

_USERS = """
SELECT id::text, email, api_key_hash, api_key_prefix, coalesce(balance_tokens, 0)::bigint,
       coalesce(created_at::timestamptz, now())
FROM users ORDER BY id
"""

_TRIALS = """
SELECT user_id::text, remaining_tokens::bigint, expires_at::timestamptz
FROM trial_tokens WHERE user_id = ANY(%(ids)s::{id_type}[]) AND remaining_tokens > 0
"""

# Oldest first: the order in which their tokens count as spent.
_PURCHASES = """
SELECT user_id::text, lower(payment_method), payment_ref, tokens_added::bigint,
       amount_cents::bigint, "timestamp"::timestamptz
FROM token_purchases WHERE user_id = ANY(%(ids)s::{id_type}[])
ORDER BY "timestamp", payment_ref
"""

_USAGE = """
SELECT user_id::text, "timestamp"::timestamptz::date, coalesce(model, 'unknown'), count(*),
       coalesce(sum(input_tokens), 0)::bigint, coalesce(sum(output_tokens), 0)::bigint
FROM usage_events
WHERE user_id = ANY(%(ids)s::{id_type}[]) AND "timestamp"::timestamptz < %(before)s
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True)
class Trial:
    """A grant of trial tokens, as far as it is not used up."""

    tokens: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Purchase:
    """A credited payment; `reference` is Stripe's session or BTCPay's invoice."""

    method: str | None
    reference: str | None
    tokens: int | None
    amount_cents: int | None
    paid_at: datetime


@dataclass(frozen=True, slots=True)
class UsageDay:
    """Usage of one model on one UTC day."""

    day: date
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class SourceAccount:
    """One account of model-gateway with all that is imported of it."""

    id: str
    email: str
    key_hash: str | None
    key_prefix: str | None
    balance_tokens: int
    created_at: datetime
    trials: Sequence[Trial]
    purchases: Sequence[Purchase]
    usage: Sequence[UsageDay]


class ModelGateway:
    """An open snapshot of model-gateway's database."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._id_type = self._check()

    def accounts(self, before: date) -> Iterator[SourceAccount]:
        """Yield all accounts, oldest first, with their usage of the days before `before`."""
        with self._connection.cursor(name="promptly_accounts") as users:
            users.execute(_USERS)
            while rows := users.fetchmany(BATCH):
                values = {"ids": [row[0] for row in rows], "before": before}
                trials = self._by_user(_TRIALS, Trial, values)
                purchases = self._by_user(_PURCHASES, Purchase, values)
                usage = self._by_user(_USAGE, UsageDay, values)
                for row in rows:
                    user_id, email, key_hash, key_prefix, balance_tokens, created_at = row
                    yield SourceAccount(
                        id=user_id,
                        email=email,
                        key_hash=key_hash,
                        key_prefix=key_prefix,
                        balance_tokens=balance_tokens,
                        created_at=created_at,
                        trials=trials[user_id],
                        purchases=purchases[user_id],
                        usage=usage[user_id],
                    )

    def _by_user(self, query: str, kind: type, values: dict[str, Any]) -> dict[str, list[Any]]:
        """Return the rows of a query by their first column, as objects made of the others."""
        statement = sql.SQL(query).format(id_type=sql.SQL(self._id_type))
        found: defaultdict[str, list[Any]] = defaultdict(list)
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            for user_id, *columns in cursor:
                found[user_id].append(kind(*columns))
        return found

    def _check(self) -> str:
        """Return the type of the ids; raises InvalidRequest naming a table or column amiss."""
        with self._connection.cursor() as cursor:
            cursor.execute(_COLUMNS, ([*TABLES, _OWN_TABLE],))
            present: defaultdict[str, dict[str, str]] = defaultdict(dict)
            for table, column, data_type in cursor:
                present[table][column] = data_type
        if _OWN_TABLE in present:
            raise InvalidRequest("This is a database of promptly: name the one of model-gateway.")
        for table, columns in TABLES.items():
            missing = sorted(columns - present[table].keys())
            if missing:
                lack = f"columns {', '.join(missing)}" if present[table] else "table itself"
                raise InvalidRequest(
                    f"This is not a database of model-gateway: of {table}, the {lack} is missing."
                )
        id_type = present["users"]["id"]
        if id_type not in ID_TYPES:
            raise InvalidRequest(f"The type {id_type} of users.id is not supported.")
        return id_type


@contextmanager
def opened(url: str) -> Iterator[ModelGateway]:
    """Open the database for the block; nothing can be written there.

    Raises InvalidRequest if it cannot be opened, or is not model-gateway's.
    """
    arguments = connection_arguments(url)
    try:
        connection = psycopg2.connect(**arguments)
    except psycopg2.Error as problem:
        reason = str(problem).strip().partition("\n")[0]
        raise InvalidRequest(f"model-gateway's database cannot be opened: {reason}") from problem
    with closing(connection):
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with connection.cursor() as cursor:
            cursor.execute(_SET)
        yield ModelGateway(connection)


def connection_arguments(url: str) -> dict[str, Any]:
    """Return psycopg2's arguments for a URL that may be written for another driver."""
    try:
        parsed = make_url(url.strip())
    except (ArgumentError, ValueError):
        # Their text quotes the URL, perhaps with a part of the password.
        raise InvalidRequest("Give the database as a postgresql:// URL.") from None
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise InvalidRequest("Give the database as a postgresql:// URL.")
    arguments = {
        **parsed.translate_connect_args(username="user", database="dbname"),
        **parsed.query,
    }
    if "ssl" in arguments:
        # asyncpg's name for it.
        arguments["sslmode"] = arguments.pop("ssl")
    return {**arguments, "connect_timeout": CONNECT_SECONDS}
