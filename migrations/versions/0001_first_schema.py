"""first schema

Revision: 0001, the first.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Rows of these two change on every request: vacuum them early and without pausing long.
BUSY_TABLES = """
ALTER TABLE balances SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
ALTER TABLE holds SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
"""

# This month, the next two, and a last resort, so that no usage event ever finds no place.
PARTITIONS = """
CREATE TABLE usage_events_default PARTITION OF usage_events DEFAULT;
DO $$
DECLARE
    first date;
BEGIN
    FOR ahead IN 0..2 LOOP
        first := (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead))::date;
        EXECUTE format(
            'CREATE TABLE %I PARTITION OF usage_events FOR VALUES FROM (%L) TO (%L)',
            'usage_events_' || to_char(first, 'YYYY_MM'),
            first::text || ' 00:00:00+00',
            (first + interval '1 month')::date::text || ' 00:00:00+00'
        );
    END LOOP;
END $$;
"""

METERING = (Path(__file__).parent.parent / "functions" / "metering_0001.sql").read_text()

OPERATOR_VIEW = """
CREATE VIEW token_purchases AS
SELECT user_id,
       paid_tokens,
       trial_tokens,
       trial_expires_at AS trial_expiry,
       held_paid + held_trial AS reserved_tokens
FROM balances;
"""

# What an operator writes into the view is a change, not a value: NEW minus OLD is applied to
# the row as it is once its lock is held, so nothing that was charged meanwhile is undone.
OPERATOR_VIEW_TRIGGER = """
CREATE FUNCTION token_purchases_update() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    owned balances%ROWTYPE;
    paid_change bigint := NEW.paid_tokens - OLD.paid_tokens;
    trial_change bigint := NEW.trial_tokens - OLD.trial_tokens;
BEGIN
    IF NEW.user_id IS DISTINCT FROM OLD.user_id
       OR NEW.reserved_tokens IS DISTINCT FROM OLD.reserved_tokens THEN
        RAISE EXCEPTION 'only paid_tokens, trial_tokens and trial_expiry can be changed';
    END IF;
    IF paid_change IS NULL OR trial_change IS NULL THEN
        RAISE EXCEPTION 'paid_tokens and trial_tokens cannot be empty';
    END IF;
    SELECT * INTO owned FROM balances WHERE user_id = OLD.user_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    paid_change := greatest(paid_change, owned.held_paid - owned.paid_tokens);
    trial_change := greatest(trial_change, owned.held_trial - owned.trial_tokens);
    UPDATE balances
    SET paid_tokens = paid_tokens + paid_change,
        trial_tokens = trial_tokens + trial_change,
        trial_expires_at = CASE
            WHEN NEW.trial_expiry IS DISTINCT FROM OLD.trial_expiry THEN NEW.trial_expiry
            ELSE trial_expires_at
        END
    WHERE user_id = OLD.user_id;
    IF paid_change <> 0 OR trial_change <> 0 THEN
        INSERT INTO ledger_entries (user_id, kind, paid_delta, trial_delta, actor)
        VALUES (OLD.user_id, 'operator_sql', paid_change, trial_change, 'sql:' || session_user);
    END IF;
    NEW.paid_tokens := owned.paid_tokens + paid_change;
    NEW.trial_tokens := owned.trial_tokens + trial_change;
    RETURN NEW;
END $$;

CREATE TRIGGER token_purchases_update INSTEAD OF UPDATE ON token_purchases
FOR EACH ROW EXECUTE FUNCTION token_purchases_update();
"""


def upgrade() -> None:
    op.create_table(
        "holds",
        sa.Column("request_id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column("held_paid", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("held_trial", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), server_default="0", nullable=False),
        sa.Column("completion_tokens", sa.Integer(), server_default="0", nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "checkpoint_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "state IN ('open', 'settled', 'recovered')", name=op.f("ck_holds_state")
        ),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_holds")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index(
        "ix_holds_open",
        "holds",
        ["user_id"],
        unique=False,
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "sweep_states",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("last_run_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("grace_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sweep_states")),
    )
    op.create_table(
        "trial_claims",
        sa.Column("mailbox_hash", sa.LargeBinary(), nullable=False),
        sa.Column(
            "claimed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("mailbox_hash", name=op.f("pk_trial_claims")),
    )
    op.create_table(
        "usage_events",
        sa.Column("request_id", sa.UUID(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.BigInteger(), nullable=True),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("charged_paid", sa.BigInteger(), nullable=False),
        sa.Column("charged_trial", sa.BigInteger(), nullable=False),
        sa.Column("uncharged_tokens", sa.BigInteger(), nullable=False),
        sa.Column("balance_tokens", sa.BigInteger(), nullable=False),
        sa.Column("time_to_first_token_ms", sa.Integer(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", "created_at", name=op.f("pk_usage_events")),
        postgresql_partition_by="RANGE (created_at)",
    )
    op.create_index(
        "ix_usage_events_created_at",
        "usage_events",
        ["created_at"],
        unique=False,
        postgresql_using="brin",
    )
    op.create_index(
        "ix_usage_events_user_id", "usage_events", ["user_id", "created_at"], unique=False
    )
    op.create_table(
        "usage_rollups",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("charged_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("user_id", "day", "model", name=op.f("pk_usage_rollups")),
    )
    op.create_index("ix_usage_rollups_day", "usage_rollups", ["day"], unique=False)
    op.create_table(
        "users",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("key_prefix", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
    )
    op.create_index("ix_users_created_at", "users", ["created_at", "id"], unique=False)
    op.create_table(
        "api_keys",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("pepper_version", sa.SmallInteger(), server_default="1", nullable=False),
        sa.Column("outbox_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_api_keys_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_api_keys_key_hash")),
    )
    op.create_index(
        "ix_api_keys_user_id",
        "api_keys",
        ["user_id"],
        unique=False,
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_table(
        "balances",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("paid_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("trial_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("held_paid", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("held_trial", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("trial_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("open_holds", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint("open_holds >= 0", name=op.f("ck_balances_open_holds_counted")),
        sa.CheckConstraint(
            "held_paid >= 0 AND held_paid <= paid_tokens", name=op.f("ck_balances_paid_covers_held")
        ),
        sa.CheckConstraint(
            "held_trial >= 0 AND held_trial <= trial_tokens",
            name=op.f("ck_balances_trial_covers_held"),
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_balances_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_balances")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "ledger_entries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("paid_delta", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("trial_delta", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_ledger_entries_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_entries")),
    )
    op.create_index("ix_ledger_entries_user_id", "ledger_entries", ["user_id", "id"], unique=False)
    op.create_index(
        "uq_ledger_entries_kind_reference",
        "ledger_entries",
        ["kind", "reference"],
        unique=True,
        postgresql_where=sa.text("reference IS NOT NULL"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column(
            "payload",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "next_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("leased_by", sa.Text(), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'sent', 'failed', 'cancelled')", name=op.f("ck_outbox_state")
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_outbox_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index(
        "ix_outbox_due",
        "outbox",
        ["next_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index("ix_outbox_user_id", "outbox", ["user_id"], unique=False)
    for statement in (BUSY_TABLES, PARTITIONS, METERING, OPERATOR_VIEW, OPERATOR_VIEW_TRIGGER):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP VIEW token_purchases")
    op.execute("DROP FUNCTION token_purchases_update()")
    for function in ("place_hold", "adjust_hold", "recover", "settle_many", "settle", "charge"):
        op.execute(f"DROP FUNCTION metering_{function}")
    op.drop_index("ix_outbox_user_id", table_name="outbox")
    op.drop_index(
        "ix_outbox_due", table_name="outbox", postgresql_where=sa.text("state = 'pending'")
    )
    op.drop_table("outbox")
    op.drop_index(
        "uq_ledger_entries_kind_reference",
        table_name="ledger_entries",
        postgresql_where=sa.text("reference IS NOT NULL"),
    )
    op.drop_index("ix_ledger_entries_user_id", table_name="ledger_entries")
    op.drop_table("ledger_entries")
    op.drop_table("balances")
    op.drop_index(
        "ix_api_keys_user_id", table_name="api_keys", postgresql_where=sa.text("revoked_at IS NULL")
    )
    op.drop_table("api_keys")
    op.drop_index("ix_users_created_at", table_name="users")
    op.drop_table("users")
    op.drop_index("ix_usage_rollups_day", table_name="usage_rollups")
    op.drop_table("usage_rollups")
    op.drop_index("ix_usage_events_user_id", table_name="usage_events")
    op.drop_index("ix_usage_events_created_at", table_name="usage_events", postgresql_using="brin")
    op.drop_table("usage_events")
    op.drop_table("trial_claims")
    op.drop_table("sweep_states")
    op.drop_index("ix_holds_open", table_name="holds", postgresql_where=sa.text("state = 'open'"))
    op.drop_table("holds")
