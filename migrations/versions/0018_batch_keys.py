"""keys whose requests yield to all others

The release before ignores the column, and the keys that it creates are not batch keys.

Revision: 0018, after 0017.
"""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE api_keys ADD COLUMN batch boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    op.drop_column("api_keys", "batch")
