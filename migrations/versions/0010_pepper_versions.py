"""versions of the pepper

Revision: 0010, after 0006.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pepper_versions",
        sa.Column("version", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_pepper_versions")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_pepper_versions_fingerprint")),
    )


def downgrade() -> None:
    op.drop_table("pepper_versions")
