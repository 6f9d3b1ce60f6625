"""The tables of model-gateway, and how a database with them is recognised."""

from collections.abc import Mapping

from sqlalchemy import Connection, text

TABLES: Mapping[str, frozenset[str]] = {
    "users": frozenset(
        {"id", "email", "api_key_hash", "api_key_prefix", "balance_tokens", "created_at"}
    ),
    "trial_tokens": frozenset({"user_id", "remaining_tokens", "expires_at"}),
    "usage_events": frozenset({"user_id", "timestamp", "input_tokens", "output_tokens", "model"}),
    "token_purchases": frozenset(
        {"user_id", "timestamp", "payment_method", "payment_ref", "tokens_added", "amount_cents"}
    ),
}

BELONGS_TO_MODEL_GATEWAY = (
    "DATABASE_URL names the database of model-gateway, which promptly does not change. Create a "
    "new database for promptly, run 'flask --app wsgi db upgrade' there, then "
    "'flask --app wsgi import model-gateway' with the URL of this one "
    "(docs/operating/moving-over.md)."
)

# promptly's table of the same name has no such column.
_RECOGNISE = text("""
SELECT EXISTS (
    SELECT FROM information_schema.columns
    WHERE table_schema = ANY(current_schemas(false))
      AND table_name = 'users' AND column_name = 'api_key_hash'
)
""")


def belongs_to_model_gateway(connection: Connection) -> bool:
    """Whether this database has model-gateway's table of users."""
    return bool(connection.scalar(_RECOGNISE))
