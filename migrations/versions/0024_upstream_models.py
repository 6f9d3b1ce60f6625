"""models that model servers held when they last answered

The release before neither reads nor writes them.

Revision: 0024, after 0023.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "upstream_models",
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("is_router", sa.Boolean(), nullable=False),
        sa.Column("models", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "written_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("url", name=op.f("pk_upstream_models")),
    )


def downgrade() -> None:
    op.drop_table("upstream_models")
