"""plans of the steps of a request that stay right

PostgreSQL keeps a function's plans, and makes them anew when autovacuum has looked at a table, which
may be empty at that moment. A plan that then reads all of it costs little, until there are thousands
of ended holds again.

Revision: 0025, after 0024.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

ADMIT = (Path(__file__).parent.parent / "functions" / "metering_0025.sql").read_text()

SETTLE = "metering_settle(uuid, text, text, integer, integer, integer, integer, integer)"
SETTLE_MANY = (
    "metering_settle_many("
    "uuid[], text[], text[], integer[], integer[], integer[], integer[], integer[])"
)
FUNCTIONS = (
    "authenticate(bytea)",
    "metering_place_hold("
    "uuid, bigint, bigint, text, text, bigint, bigint, integer, integer, integer)",
    "metering_move_hold(uuid, bigint)",
    SETTLE,
    SETTLE_MANY,
    "metering_recover(uuid, double precision)",
)


def upgrade() -> None:
    # Almost every row is open, and a partial index invites to find a request by reading all of it.
    op.drop_index("ix_holds_open", table_name="holds")
    op.create_index("ix_holds_user_id", "holds", ["user_id"], unique=False)
    for function in FUNCTIONS:
        op.execute("ALTER FUNCTION {} SET enable_seqscan = off".format(function))
    # One settlement waits no longer for another transaction than many together do.
    op.execute("ALTER FUNCTION {} SET lock_timeout = '500ms'".format(SETTLE))
    op.execute(ADMIT)
    # A plan for this number of requests seems cheaper than one for any, but making it costs more.
    op.execute("ALTER FUNCTION {} SET plan_cache_mode = force_generic_plan".format(SETTLE_MANY))


def downgrade() -> None:
    op.execute("DROP FUNCTION metering_admit")
    for function in FUNCTIONS:
        op.execute("ALTER FUNCTION {} RESET ALL".format(function))
    op.drop_index("ix_holds_user_id", table_name="holds")
    op.create_index(
        "ix_holds_open",
        "holds",
        ["user_id"],
        unique=False,
        postgresql_where=sa.text("state = 'open'"),
    )
