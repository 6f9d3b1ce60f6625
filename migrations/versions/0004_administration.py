"""what the panel reads: totals, the audit log, deletions that have begun

Revision: 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("before", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("after", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entries")),
    )
    op.create_index("ix_audit_entries_user_id", "audit_entries", ["user_id", "id"], unique=False)
    op.create_index("ix_audit_entries_action", "audit_entries", ["action", "id"], unique=False)
    op.create_table(
        "daily_outcomes",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "outcome", name=op.f("pk_daily_outcomes")),
    )
    op.create_table(
        "daily_revenue",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("purchases", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reversed_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("day", "currency", "livemode", name=op.f("pk_daily_revenue")),
    )
    op.create_table(
        "daily_totals",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("requests", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("charged_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("uncharged_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("active_accounts", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_daily_totals")),
    )
    op.create_table(
        "account_activity",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_request_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_account_activity_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_account_activity")),
    )
    op.create_index(
        "ix_account_activity_tokens", "account_activity", ["tokens", "user_id"], unique=False
    )
    op.add_column("api_keys", sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_orders_credited_at",
        "orders",
        ["credited_at"],
        unique=False,
        postgresql_where=sa.text("credited_at IS NOT NULL"),
    )
    op.create_index("ix_orders_state", "orders", ["state", "id"], unique=False)
    op.create_index("ix_outbox_state", "outbox", ["state", "id"], unique=False)
    op.add_column("users", sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_users_closed",
        "users",
        ["id"],
        unique=False,
        postgresql_where=sa.text("closed_at IS NOT NULL"),
    )
    op.create_index(
        "ix_webhook_events_order_id", "webhook_events", ["order_id", "id"], unique=False
    )
    op.create_index("ix_webhook_events_state", "webhook_events", ["state", "id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_webhook_events_state", table_name="webhook_events")
    op.drop_index("ix_webhook_events_order_id", table_name="webhook_events")
    op.drop_index(
        "ix_users_closed", table_name="users", postgresql_where=sa.text("closed_at IS NOT NULL")
    )
    op.drop_column("users", "closed_at")
    op.drop_index("ix_outbox_state", table_name="outbox")
    op.drop_index("ix_orders_state", table_name="orders")
    op.drop_index(
        "ix_orders_credited_at",
        table_name="orders",
        postgresql_where=sa.text("credited_at IS NOT NULL"),
    )
    op.drop_column("api_keys", "last_used_at")
    op.drop_index("ix_account_activity_tokens", table_name="account_activity")
    op.drop_table("account_activity")
    op.drop_table("daily_totals")
    op.drop_table("daily_revenue")
    op.drop_table("daily_outcomes")
    op.drop_index("ix_audit_entries_action", table_name="audit_entries")
    op.drop_index("ix_audit_entries_user_id", table_name="audit_entries")
    op.drop_table("audit_entries")
