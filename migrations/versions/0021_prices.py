"""prices of models

Rows from before have version 1, which charges what was counted, and so have those of the release
before while both run: it places holds without the new argument. No row is rewritten.

Revision: 0021, after 0020.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

FUNCTIONS = Path(__file__).parent.parent / "functions"

# In the order in which a settlement locks them: another order could end in a deadlock with it.
PRICED = ("holds", "usage_events")

PLACE = "uuid, bigint, bigint, text, text, bigint, bigint, integer, integer"


def upgrade() -> None:
    op.create_table(
        "prices",
        sa.Column("id", sa.Integer(), sa.Identity(always=False, start=2), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("input", sa.Integer(), nullable=False),
        sa.Column("cached", sa.Integer(), nullable=False),
        sa.Column("output", sa.Integer(), nullable=False),
        sa.Column(
            "valid_from",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prices")),
        sa.CheckConstraint(
            "input >= 0 AND input <= 100000 AND cached >= 0 AND cached <= 100000"
            " AND output >= 0 AND output <= 100000",
            name=op.f("ck_prices_in_range"),
        ),
        sa.CheckConstraint("valid_until >= valid_from", name=op.f("ck_prices_ends_after_start")),
    )
    op.create_index(
        "uq_prices_model_valid",
        "prices",
        ["model"],
        unique=True,
        postgresql_where=sa.text("valid_until IS NULL"),
    )
    op.execute(
        "INSERT INTO prices (id, model, input, cached, output, valid_from)"
        " VALUES (1, '*', 100, 100, 100, '1970-01-01T00:00:00Z')"
    )
    for table in PRICED:
        op.execute(f"ALTER TABLE {table} ADD COLUMN price_id integer NOT NULL DEFAULT 1")
    op.execute((FUNCTIONS / "metering_0021.sql").read_text())


def downgrade() -> None:
    op.execute(f"DROP FUNCTION metering_place_hold({PLACE})")
    # Charges stay as they are; open holds cost their counts again.
    before = (FUNCTIONS / "metering_0016.sql").read_text()
    charge = before[before.index("CREATE OR REPLACE FUNCTION metering_charge(") :]
    op.execute(charge[: charge.index("END $$;") + len("END $$;")])
    for table in PRICED:
        op.drop_column(table, "price_id")
    op.execute("DROP FUNCTION metering_cost(prices, integer, integer, integer)")
    op.drop_table("prices")
    op.execute("DROP FUNCTION prices_stay()")
