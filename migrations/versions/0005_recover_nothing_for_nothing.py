"""a recovered request without output is charged nothing

Revision: 0005, after 0004.
"""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

FUNCTIONS = Path(__file__).parent.parent / "functions"


def upgrade() -> None:
    op.execute((FUNCTIONS / "metering_0005.sql").read_text())


def downgrade() -> None:
    first = (FUNCTIONS / "metering_0001.sql").read_text()
    recover = first[first.index("CREATE FUNCTION metering_recover(") :]
    recover = recover[: recover.index("END $$;") + len("END $$;")]
    op.execute(recover.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1))
