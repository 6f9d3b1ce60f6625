"""what a customer's pages and receipts say about an order

The form that it was ordered with, Bitcoin seen so far and still due, the tax contained in the
price, the seller at the time, and refunds of a surplus that the customer knows of. All are optional
or have a default: the release before ignores them, and its orders have none.

Revision: 0014, after 0013.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("form_token", sa.Text()))
    op.add_column("orders", sa.Column("seen_minor", sa.BigInteger()))
    op.add_column("orders", sa.Column("due_satoshis", sa.BigInteger()))
    op.add_column("orders", sa.Column("tax_minor", sa.BigInteger()))
    op.add_column("orders", sa.Column("seller", postgresql.JSONB()))
    op.add_column(
        "orders",
        sa.Column(
            "surplus_refunded_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
    )


def downgrade() -> None:
    op.drop_column("orders", "surplus_refunded_minor")
    op.drop_column("orders", "seller")
    op.drop_column("orders", "tax_minor")
    op.drop_column("orders", "due_satoshis")
    op.drop_column("orders", "seen_minor")
    op.drop_column("orders", "form_token")
