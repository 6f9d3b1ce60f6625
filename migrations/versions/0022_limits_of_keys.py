"""limits of keys

No key has any at first. The release before knows neither expiry nor models nor addresses; caps and
concurrency hold for it too, because they are kept where its holds are placed.

Revision: 0022, after 0021.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

FUNCTIONS = Path(__file__).parent.parent / "functions"

PLACE = "uuid, bigint, bigint, text, text, bigint, bigint, integer"

# Functions that 0022 replaces: their signatures, and the files with their earlier bodies.
REPLACED = (
    (f"metering_place_hold({PLACE})", "metering_0001.sql", "CREATE FUNCTION metering_place_hold("),
    (
        f"metering_place_hold({PLACE}, integer)",
        "metering_0021.sql",
        "CREATE FUNCTION metering_place_hold(",
    ),
    (
        "metering_adjust_hold(uuid, bigint)",
        "metering_0001.sql",
        "CREATE FUNCTION metering_adjust_hold(",
    ),
    (
        "metering_charge(holds, text, integer, integer, boolean)",
        "metering_0021.sql",
        "CREATE OR REPLACE FUNCTION metering_charge(",
    ),
)

ADDED = (
    f"metering_place_hold({PLACE}, integer, integer)",
    "metering_move_hold(uuid, bigint)",
    "metering_key_room(key_limits)",
    "metering_key_limits(bigint)",
    "key_limits_period(text, timestamptz)",
)


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    for column in ("allowed_models", "allowed_addresses"):
        op.add_column("api_keys", sa.Column(column, postgresql.ARRAY(sa.Text()), nullable=True))
    op.add_column(
        "balances", sa.Column("limited_keys", sa.Integer(), server_default="0", nullable=False)
    )
    op.create_check_constraint(
        op.f("ck_balances_limited_keys_counted"), "balances", "limited_keys >= 0"
    )
    op.create_table(
        "key_limits",
        sa.Column("key_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("cap_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cap_period", sa.Text(), nullable=True),
        sa.Column("concurrent_requests", sa.Integer(), nullable=True),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("held_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("open_holds", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_key_limits")),
        sa.ForeignKeyConstraint(
            ["key_id"],
            ["api_keys.id"],
            name=op.f("fk_key_limits_key_id_api_keys"),
            ondelete="CASCADE",
        ),
        sa.CheckConstraint("cap_tokens > 0", name=op.f("ck_key_limits_cap_tokens")),
        sa.CheckConstraint(
            "(cap_tokens IS NULL) = (cap_period IS NULL)", name=op.f("ck_key_limits_cap_has_period")
        ),
        sa.CheckConstraint(
            "cap_period IN ('day', 'week', 'month', 'ever')", name=op.f("ck_key_limits_cap_period")
        ),
        sa.CheckConstraint(
            "concurrent_requests > 0", name=op.f("ck_key_limits_concurrent_requests")
        ),
        sa.CheckConstraint(
            "used_tokens >= 0 AND held_tokens >= 0 AND open_holds >= 0",
            name=op.f("ck_key_limits_not_negative"),
        ),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index("ix_key_limits_user_id", "key_limits", ["user_id"], unique=False)
    op.execute((FUNCTIONS / "metering_0022.sql").read_text())


def downgrade() -> None:
    for signature in ADDED:
        op.execute(f"DROP FUNCTION {signature} CASCADE")
    for signature, file, beginning in REPLACED:
        op.execute(f"DROP FUNCTION {signature}")
        before = (FUNCTIONS / file).read_text()
        body = before[before.index(beginning) :]
        op.execute(body[: body.index("END $$;") + len("END $$;")])
    op.drop_table("key_limits")
    op.drop_column("balances", "limited_keys")
    for column in ("allowed_addresses", "allowed_models", "expires_at"):
        op.drop_column("api_keys", column)
