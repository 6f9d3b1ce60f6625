"""how much of the prompt was cached

Rows from before have 0, and so have those of the release before while both run: it calls the
functions without the new argument. Its roll-ups leave the new columns as they are, until this
release rebuilds the same days; so those have no constraint that compares two columns.

Revision: 0016, after 0015.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

FUNCTIONS = Path(__file__).parent.parent / "functions"

# In the order in which a settlement locks them: another order could end in a deadlock with it.
COUNTED = ("holds", "usage_events")
SUMMED = ("usage_rollups", "daily_totals")

SETTLE = "uuid, text, text, integer, integer, integer, integer, integer"
SETTLE_MANY = "uuid[], text[], text[], integer[], integer[], integer[], integer[], integer[]"


def upgrade() -> None:
    for table in COUNTED:
        # A table with rows is not read under the lock: its constraint is for new rows only.
        has_rows = op.get_bind().scalar(sa.text(f"SELECT EXISTS (SELECT FROM {table})"))
        op.execute(
            f"ALTER TABLE {table}"
            " ADD COLUMN cached_prompt_tokens integer NOT NULL DEFAULT 0,"
            f" ADD CONSTRAINT ck_{table}_cached_in_prompt"
            " CHECK (cached_prompt_tokens >= 0 AND cached_prompt_tokens <= prompt_tokens)"
            + (" NOT VALID" if has_rows else "")
        )
    for table in SUMMED:
        op.execute(f"ALTER TABLE {table} ADD COLUMN cached_prompt_tokens bigint NOT NULL DEFAULT 0")
    op.execute((FUNCTIONS / "metering_0016.sql").read_text())


def downgrade() -> None:
    op.execute(f"DROP FUNCTION metering_settle_many({SETTLE_MANY})")
    op.execute(f"DROP FUNCTION metering_settle({SETTLE})")
    op.execute((FUNCTIONS / "metering_0005.sql").read_text())
    first = (FUNCTIONS / "metering_0001.sql").read_text()
    charge = first[first.index("CREATE FUNCTION metering_charge(") :]
    charge = charge[: charge.index("END $$;") + len("END $$;")]
    op.execute(charge.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1))
    for table in COUNTED:
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_cached_in_prompt")
    for table in (*COUNTED, *SUMMED):
        op.drop_column(table, "cached_prompt_tokens")
