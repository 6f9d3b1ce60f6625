"""the steps of a request in fewer statements

Signatures stay, and so does what the functions do: the release before calls them as well.

Revision: 0023, after 0022.
"""

from pathlib import Path

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

FUNCTIONS = Path(__file__).parent.parent / "functions"

# Functions that 0023 replaces, by the file that has the body of before.
REPLACED = (
    ("metering_0022.sql", "metering_place_hold"),
    ("metering_0022.sql", "metering_charge"),
    ("metering_0016.sql", "metering_settle"),
    ("metering_0016.sql", "metering_settle_many"),
)


def upgrade() -> None:
    for file in ("authenticate_0023.sql", "metering_0023.sql"):
        op.execute((FUNCTIONS / file).read_text())


def downgrade() -> None:
    for file, name in REPLACED:
        before = (FUNCTIONS / file).read_text()
        body = before[before.index(f"FUNCTION {name}(") :]
        op.execute(f"CREATE OR REPLACE {body[: body.index('END $$;') + len('END $$;')]}")
    op.execute("DROP FUNCTION metering_take(holds, bigint)")
    op.execute("DROP FUNCTION authenticate(bytea)")
