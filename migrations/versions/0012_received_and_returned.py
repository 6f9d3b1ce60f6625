"""what came for an order and what went back, and the refund of a case

Orders from before have no figures: they are read from the provider before a refund. The release
before ignores the new columns; without both figures the constraint holds, so its rows pass.

Revision: 0012, after 0011.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("received_minor", sa.BigInteger()))
    op.add_column("orders", sa.Column("returned_minor", sa.BigInteger()))
    op.add_column("orders", sa.Column("received_currency", sa.Text()))
    # Unvalidated, so that no table is read under the lock; 0013 validates it.
    op.execute(
        "ALTER TABLE orders ADD CONSTRAINT ck_orders_returns_at_most_received CHECK"
        " (received_minor >= 0 AND returned_minor >= 0 AND returned_minor <= received_minor)"
        " NOT VALID"
    )
    op.add_column("payment_reversals", sa.Column("case_id", sa.BigInteger()))
    op.execute(
        "ALTER TABLE payment_reversals"
        " ADD CONSTRAINT fk_payment_reversals_case_id_payment_cases"
        " FOREIGN KEY (case_id) REFERENCES payment_cases (id) NOT VALID"
    )
    op.create_index(
        "ix_payment_reversals_offered",
        "payment_reversals",
        ["order_id"],
        unique=False,
        postgresql_where=sa.text("state IN ('offered', 'claimed')"),
    )


def downgrade() -> None:
    op.drop_index("ix_payment_reversals_offered", table_name="payment_reversals")
    op.drop_column("payment_reversals", "case_id")
    op.execute("ALTER TABLE orders DROP CONSTRAINT ck_orders_returns_at_most_received")
    op.drop_column("orders", "received_currency")
    op.drop_column("orders", "returned_minor")
    op.drop_column("orders", "received_minor")
