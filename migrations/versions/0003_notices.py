"""what accounts are warned of by mail

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("low_balance_tokens", sa.BigInteger(), nullable=True))
    op.add_column(
        "users",
        sa.Column("low_balance_armed", sa.Boolean(), server_default="false", nullable=False),
    )
    op.add_column(
        "users", sa.Column("trial_notice", sa.Boolean(), server_default="true", nullable=False)
    )
    op.add_column("users", sa.Column("trial_told_of", sa.DateTime(timezone=True), nullable=True))
    op.create_check_constraint(
        op.f("ck_users_low_balance_tokens"), "users", "low_balance_tokens >= 0"
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_users_low_balance_tokens"), "users", type_="check")
    for column in ("trial_told_of", "trial_notice", "low_balance_armed", "low_balance_tokens"):
        op.drop_column("users", column)
