"""trials per day and domain, and the folding of each account's mailbox

Revision: 0009, after 0006.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "users",
        sa.Column("trial_deferred", sa.Boolean(), server_default="false", nullable=False),
    )
    # Accounts that the release before creates count as folded by its rules.
    op.add_column(
        "users",
        sa.Column("mailbox_folding", sa.SmallInteger(), server_default="1", nullable=False),
    )
    op.create_index(
        "ix_users_mailbox_folding",
        "users",
        ["id"],
        unique=False,
        postgresql_where=sa.text("mailbox_folding < 2"),
    )
    op.create_table(
        "trial_counts",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("granted", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("day", "domain", name=op.f("pk_trial_counts")),
    )


def downgrade() -> None:
    op.drop_table("trial_counts")
    op.drop_index(
        "ix_users_mailbox_folding",
        table_name="users",
        postgresql_where=sa.text("mailbox_folding < 2"),
    )
    op.drop_column("users", "mailbox_folding")
    op.drop_column("users", "trial_deferred")
