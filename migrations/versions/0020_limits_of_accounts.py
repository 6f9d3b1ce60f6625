"""limits of accounts, and their suspension

The columns are empty for every account: the release before ignores them.

Revision: 0020, after 0019.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("requests_per_minute", sa.Integer(), nullable=True))
    op.add_column("users", sa.Column("concurrent_requests", sa.Integer(), nullable=True))
    op.add_column("users", sa.Column("suspended_at", sa.DateTime(timezone=True), nullable=True))
    op.create_check_constraint(
        op.f("ck_users_requests_per_minute"), "users", "requests_per_minute > 0"
    )
    op.create_check_constraint(
        op.f("ck_users_concurrent_requests"), "users", "concurrent_requests > 0"
    )
    op.create_index(
        "ix_users_suspended",
        "users",
        ["id"],
        unique=False,
        postgresql_where=sa.text("suspended_at IS NOT NULL"),
    )
    op.create_index(
        "ix_users_requests_per_minute",
        "users",
        ["id"],
        unique=False,
        postgresql_where=sa.text("requests_per_minute IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_users_requests_per_minute",
        table_name="users",
        postgresql_where=sa.text("requests_per_minute IS NOT NULL"),
    )
    op.drop_index(
        "ix_users_suspended",
        table_name="users",
        postgresql_where=sa.text("suspended_at IS NOT NULL"),
    )
    op.drop_constraint(op.f("ck_users_concurrent_requests"), "users", type_="check")
    op.drop_constraint(op.f("ck_users_requests_per_minute"), "users", type_="check")
    op.drop_column("users", "suspended_at")
    op.drop_column("users", "concurrent_requests")
    op.drop_column("users", "requests_per_minute")
