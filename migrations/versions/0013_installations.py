"""the installation's id at the payment providers

Also validates the constraints of 0012, which reads the tables without locking out writers.

Revision: 0013, after 0012.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "installations",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("id = 1", name=op.f("ck_installations_only_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_installations")),
    )
    op.execute("ALTER TABLE orders VALIDATE CONSTRAINT ck_orders_returns_at_most_received")
    op.execute(
        "ALTER TABLE payment_reversals"
        " VALIDATE CONSTRAINT fk_payment_reversals_case_id_payment_cases"
    )


def downgrade() -> None:
    op.drop_table("installations")
