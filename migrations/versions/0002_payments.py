"""orders, what became of them, and the webhook inbox

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# With the oldest spent first, what is left of the paid tokens belongs to the newest lots. So each
# lot's unspent part follows from the balance, and nothing has to be written when tokens are spent.
# A lot is a positive entry; what a dispute that was won gives back belongs to the lot it came from.
LOTS = """
CREATE VIEW lots AS
SELECT id, user_id, created_at, kind, reference, tokens, taken_tokens,
       greatest(0, least(tokens - taken_tokens, paid_tokens - newer_tokens)) AS unspent_tokens
FROM (
    SELECT e.id, e.user_id, e.created_at, e.kind, e.reference, b.paid_tokens,
           e.paid_delta AS tokens,
           coalesce(o.tokens_taken, 0) AS taken_tokens,
           coalesce(
               sum(e.paid_delta - coalesce(o.tokens_taken, 0)) OVER (
                   PARTITION BY e.user_id ORDER BY e.id DESC
                   ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
               ), 0
           )::bigint AS newer_tokens
    FROM ledger_entries e
    JOIN balances b ON b.user_id = e.user_id
    LEFT JOIN orders o ON e.kind = 'purchase' AND o.number = e.reference
    WHERE e.paid_delta > 0 AND e.kind <> 'purchase_restored'
) entries;
"""


def upgrade() -> None:
    op.create_table(
        "orders",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("pack", sa.Text(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), server_default="created", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="1", nullable=False),
        sa.Column("unanswered", sa.Boolean(), server_default="false", nullable=False),
        _moment("called_at", default=True),
        _moment("expires_at", nullable=False),
        sa.Column("checkout_id", sa.Text(), nullable=True),
        sa.Column("checkout_url", sa.Text(), nullable=True),
        sa.Column("payment_id", sa.Text(), nullable=True),
        sa.Column("provider_status", sa.Text(), nullable=True),
        _moment("credited_at"),
        sa.Column("approved", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("tokens_taken", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tokens_owed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reversed_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("refunded_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reversal_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("leased_by", sa.Text(), nullable=True),
        _moment("leased_until"),
        _moment("checked_at", default=True),
        _moment("created_at", default=True),
        _moment("updated_at", default=True),
        sa.CheckConstraint(
            "state IN ('created', 'open', 'processing', 'attention', 'expired', 'failed', 'paid', "
            "'partly_refunded', 'refunded', 'disputed', 'charged_back', 'invalid')",
            name=op.f("ck_orders_state"),
        ),
        sa.CheckConstraint("provider IN ('stripe', 'btcpay')", name=op.f("ck_orders_provider")),
        sa.CheckConstraint(
            "tokens > 0 AND amount_minor > 0", name=op.f("ck_orders_something_for_something")
        ),
        sa.CheckConstraint(
            "tokens_taken >= 0 AND tokens_owed >= 0 AND tokens_taken + tokens_owed <= tokens",
            name=op.f("ck_orders_takes_back_at_most_all"),
        ),
        sa.CheckConstraint(
            "credited_at IS NOT NULL OR tokens_taken + tokens_owed = 0",
            name=op.f("ck_orders_takes_back_credited"),
        ),
        sa.CheckConstraint(
            "reversed_minor >= 0 AND reversed_minor <= amount_minor",
            name=op.f("ck_orders_reverses_at_most_all"),
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_orders_user_id_users"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orders")),
        sa.UniqueConstraint("number", name=op.f("uq_orders_number")),
    )
    op.create_index("ix_orders_user_id", "orders", ["user_id", "id"])
    _partial_index(
        "ix_orders_unsettled", "orders", "checked_at", "state IN ('created', 'open', 'processing')"
    )
    _partial_index("ix_orders_owing", "orders", "id", "tokens_owed > 0")
    _unique_where_set("uq_orders_checkout", "orders", "checkout_id")
    _unique_where_set("uq_orders_payment", "orders", "payment_id")

    op.create_table(
        "payment_reversals",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("counts", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("link", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("unanswered", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        _moment("created_at", default=True),
        _moment("updated_at", default=True),
        sa.CheckConstraint(
            "kind IN ('refund', 'dispute', 'invalidation')", name=op.f("ck_payment_reversals_kind")
        ),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_payment_reversals_amount")),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name=op.f("fk_payment_reversals_order_id_orders")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_reversals")),
    )
    op.create_index("ix_payment_reversals_order_id", "payment_reversals", ["order_id"])
    _unique_where_set("uq_payment_reversals_provider_id", "payment_reversals", "provider_id")
    _partial_index(
        "ix_payment_reversals_requested", "payment_reversals", "id", "state = 'requested'"
    )

    op.create_table(
        "payment_cases",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("checkout_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("paid_minor", sa.BigInteger(), nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.Column("resolved_by", sa.Text(), nullable=True),
        _moment("resolved_at"),
        sa.Column("note", sa.Text(), nullable=True),
        _moment("created_at", default=True),
        sa.CheckConstraint(
            "(resolution IS NULL) = (resolved_at IS NULL)", name=op.f("ck_payment_cases_resolved")
        ),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name=op.f("fk_payment_cases_order_id_orders")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_cases")),
    )
    op.create_index(
        "uq_payment_cases_subject", "payment_cases", ["provider", "checkout_id", "kind"], unique=True
    )
    op.create_index("ix_payment_cases_order_id", "payment_cases", ["order_id"])
    _partial_index("ix_payment_cases_open", "payment_cases", "id", "resolution IS NULL")

    op.create_table(
        "webhook_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Text(), nullable=True),
        sa.Column("order_id", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        _moment("next_at", default=True),
        sa.Column("leased_by", sa.Text(), nullable=True),
        _moment("leased_until"),
        _moment("received_at", default=True),
        _moment("handled_at"),
        sa.CheckConstraint(
            "state IN ('pending', 'handled', 'ignored', 'parked')",
            name=op.f("ck_webhook_events_state"),
        ),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name=op.f("fk_webhook_events_order_id_orders")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_events")),
    )
    op.create_index(
        "uq_webhook_events_event_id", "webhook_events", ["provider", "event_id"], unique=True
    )
    _partial_index("ix_webhook_events_due", "webhook_events", "next_at", "state = 'pending'")
    _partial_index(
        "ix_webhook_events_waiting",
        "webhook_events",
        "order_id",
        "state = 'pending' AND order_id IS NOT NULL",
    )
    op.create_index("ix_webhook_events_received_at", "webhook_events", ["received_at"])

    op.create_table(
        "payment_reconciliations",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        _moment("started_at", default=True),
        _moment("leased_until", nullable=False),
        _moment("finished_at"),
        sa.Column("complete", sa.Boolean(), server_default="false", nullable=False),
        sa.Column(
            "report",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_reconciliations")),
    )
    op.create_index(
        "ix_payment_reconciliations_started_at", "payment_reconciliations", ["started_at"]
    )
    op.execute(LOTS)


def downgrade() -> None:
    op.execute("DROP VIEW lots")
    # With their indexes.
    for table in (
        "payment_reconciliations",
        "webhook_events",
        "payment_cases",
        "payment_reversals",
        "orders",
    ):
        op.drop_table(table)


def _moment(name: str, *, nullable: bool = True, default: bool = False) -> sa.Column:
    return sa.Column(
        name,
        sa.DateTime(timezone=True),
        server_default=sa.text("now()") if default else None,
        nullable=nullable and not default,
    )


def _partial_index(name: str, table: str, column: str, where: str) -> None:
    op.create_index(name, table, [column], postgresql_where=sa.text(where))


def _unique_where_set(name: str, table: str, column: str) -> None:
    op.create_index(
        name,
        table,
        ["provider", column],
        unique=True,
        postgresql_where=sa.text(f"{column} IS NOT NULL"),
    )
