"""model-gateway, the gateway that promptly follows: its database, its keys, its accounts."""

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import bcrypt
import psycopg2
from psycopg2.extras import execute_batch

from promptly.services.imports.source import Purchase, SourceAccount, Trial, UsageDay
from tests.support.databases import Databases

# Its tables; `alembic_version` names a revision that promptly does not have.
SCHEMA = """
CREATE TABLE users (
    id {id_type} PRIMARY KEY, email varchar UNIQUE NOT NULL, api_key_hash varchar,
    api_key_prefix varchar(12), balance_tokens bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE trial_tokens (
    id serial PRIMARY KEY, user_id {id_type} NOT NULL REFERENCES users, tokens_granted bigint,
    remaining_tokens bigint NOT NULL, expires_at timestamptz NOT NULL,
    activated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE usage_events (
    id serial PRIMARY KEY, user_id {id_type} NOT NULL REFERENCES users,
    "timestamp" timestamp NOT NULL, input_tokens integer, output_tokens integer, model varchar
);
CREATE TABLE token_purchases (
    id serial PRIMARY KEY, user_id {id_type} NOT NULL REFERENCES users,
    "timestamp" timestamptz NOT NULL DEFAULT now(), payment_method varchar NOT NULL,
    payment_ref varchar UNIQUE, tokens_added bigint, amount_cents integer
);
CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
INSERT INTO alembic_version VALUES ('a1b2c3d4e5f6');
"""


def new_key() -> str:
    """Return a key as model-gateway makes them."""
    return "sk-" + secrets.token_urlsafe(32)


def hashed(key: str, rounds: int = 4) -> str:
    """Return a key's hash; model-gateway's cost is 12, which takes 0.2 s."""
    return bcrypt.hashpw(key.encode(), bcrypt.gensalt(rounds)).decode()


class ModelGatewayDatabase:
    """The database at a URL, written with SQL of its own."""

    def __init__(self, url: str, id_type: str = "integer") -> None:
        self.url = url
        self.run(SCHEMA.format(id_type=id_type))

    def run(self, statement: str, rows: list[tuple[Any, ...]] | None = None) -> None:
        """Execute and commit a statement, once or for each row of parameters."""
        with (
            closing(psycopg2.connect(self.url)) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            if rows is None:
                cursor.execute(statement)
            else:
                execute_batch(cursor, statement, rows)

    def add(self, *accounts: SourceAccount) -> None:
        """Store accounts with all that is theirs; usage of a day counts as one request."""
        self.run(
            "INSERT INTO users VALUES (%s, %s, %s, %s, %s, %s)",
            [
                (one.id, one.email, one.key_hash, one.key_prefix, one.balance_tokens,
                 one.created_at)
                for one in accounts
            ],
        )  # fmt: skip
        self.run(
            "INSERT INTO trial_tokens (user_id, remaining_tokens, expires_at) VALUES (%s, %s, %s)",
            [(one.id, item.tokens, item.expires_at) for one in accounts for item in one.trials],
        )
        self.run(
            "INSERT INTO token_purchases (user_id, payment_method, payment_ref, tokens_added,"
            ' amount_cents, "timestamp") VALUES (%s, %s, %s, %s, %s, %s)',
            [
                (one.id, item.method, item.reference, item.tokens, item.amount_cents, item.paid_at)
                for one in accounts
                for item in one.purchases
            ],
        )
        self.run(
            'INSERT INTO usage_events (user_id, "timestamp", input_tokens, output_tokens, model)'
            " VALUES (%s, %s, %s, %s, %s)",
            [
                (one.id, item.day, item.prompt_tokens, item.completion_tokens, item.model)
                for one in accounts
                for item in one.usage
            ],
        )


@contextmanager
def temporary(databases: Databases, id_type: str = "integer") -> Iterator[ModelGatewayDatabase]:
    """Create a database of model-gateway for the block."""
    with databases.temporary("template1") as url:
        yield ModelGatewayDatabase(url, id_type)


def account(
    number: int = 1, *, key: str | None = None, rounds: int = 4, **values: Any
) -> SourceAccount:
    """Return an account that owns nothing, with a key; other fields by name."""
    key = key or new_key()
    plain = SourceAccount(
        id=str(number),
        email=f"old{number}@example.com",
        key_hash=hashed(key, rounds),
        key_prefix=key[:12],
        balance_tokens=0,
        created_at=datetime(2025, 3, 1, tzinfo=UTC),
        trials=(),
        purchases=(),
        usage=(),
    )
    return replace(plain, **values)


def trial(tokens: int, days: float = 3) -> Trial:
    """Return a grant that expires in this many days."""
    return Trial(tokens, datetime.now(UTC) + timedelta(days=days))


def purchase(
    reference: str = "cs_test_old", tokens: int = 1000, cents: int = 200, **values: Any
) -> Purchase:
    """Return a purchase by card, paid a month ago."""
    paid_at = datetime.now(UTC) - timedelta(days=30)
    return replace(Purchase("stripe", reference, tokens, cents, paid_at), **values)


def usage(days_ago: int, *, requests: int = 1, model: str = "old-model") -> UsageDay:
    """Return usage of 10 and 5 tokens a request."""
    day = datetime.now(UTC).date() - timedelta(days=days_ago)
    return UsageDay(day, model, requests, 10 * requests, 5 * requests)
