"""usage by day, key, model, endpoint and outcome

Beside `usage_rollups`, which the release before reads and writes. Days from before stay there.
Rows go with their account, also when the release before deletes it.

Revision: 0019, after 0018.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

TOTALS = (
    *("requests", "prompt_tokens", "cached_prompt_tokens", "completion_tokens"),
    "charged_tokens",
)


def upgrade() -> None:
    op.create_table(
        "usage_breakdowns",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("key_id", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)
            for name in TOTALS
        ),
        sa.PrimaryKeyConstraint("user_id", "day", "key_id", "model", "endpoint", "outcome"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.CheckConstraint(
            " AND ".join(f"{name} >= 0" for name in TOTALS),
            name="ck_usage_breakdowns_not_negative",
        ),
    )
    op.create_index("ix_usage_breakdowns_day", "usage_breakdowns", ["day"])
    # The other index has only valid keys, but usage may be that of a revoked one.
    op.create_index("ix_api_keys_of_account", "api_keys", ["user_id"])


def downgrade() -> None:
    op.drop_index("ix_api_keys_of_account", table_name="api_keys")
    op.drop_table("usage_breakdowns")
