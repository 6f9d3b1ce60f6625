"""counts and charges are not negative

A model server that reported a negative count could mint tokens. Rows that already have one stay as
they are: a table with rows gets its constraint unvalidated, for new rows only, so that the upgrade
neither fails nor reads the whole table under a lock. Open holds are corrected, as they are still to
be charged.

Revision: 0007, after 0006.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

CHECKS = {
    "holds": "prompt_tokens >= 0 AND completion_tokens >= 0",
    "usage_events": (
        "prompt_tokens >= 0 AND completion_tokens >= 0 AND charged_paid >= 0"
        " AND charged_trial >= 0 AND uncharged_tokens >= 0"
    ),
    "usage_rollups": (
        "requests >= 0 AND prompt_tokens >= 0 AND completion_tokens >= 0 AND charged_tokens >= 0"
    ),
}


def upgrade() -> None:
    op.execute(
        "UPDATE holds SET prompt_tokens = greatest(prompt_tokens, 0),"
        " completion_tokens = greatest(completion_tokens, 0)"
        " WHERE prompt_tokens < 0 OR completion_tokens < 0"
    )
    for table, condition in CHECKS.items():
        has_rows = op.get_bind().scalar(sa.text(f"SELECT EXISTS (SELECT FROM {table})"))
        op.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT ck_{table}_not_negative CHECK ({condition})"
            + (" NOT VALID" if has_rows else "")
        )


def downgrade() -> None:
    for table in CHECKS:
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_not_negative")
