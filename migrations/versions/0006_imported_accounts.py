"""accounts and keys that come from another gateway

Revision: 0006, after 0005.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "imported_accounts",
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("key_id", sa.BigInteger(), nullable=True),
        sa.Column("paid_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("trial_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("entry_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("usage_until", sa.Date(), nullable=False),
        sa.Column(
            "imported_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_imported_accounts_user_id_users"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("source_id", name=op.f("pk_imported_accounts")),
        sa.UniqueConstraint("user_id", name=op.f("uq_imported_accounts_user_id")),
    )
    op.create_index(
        "ix_api_keys_imported",
        "api_keys",
        ["prefix"],
        unique=False,
        postgresql_where=sa.text("pepper_version = 0 AND revoked_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_api_keys_imported",
        table_name="api_keys",
        postgresql_where=sa.text("pepper_version = 0 AND revoked_at IS NULL"),
    )
    op.drop_table("imported_accounts")
