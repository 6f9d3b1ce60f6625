"""a surplus that was credited as tokens, in the lot of its purchase

The release before ignores the column; orders' tokens, entries and lots agree for it as well.

Revision: 0015, after 0014.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# As in 0002, but a surplus that was credited later counts as if it had come with its purchase: its
# entry, whose reference is the order's number, a slash and more, is no lot of its own.
LOTS = """
CREATE OR REPLACE VIEW lots AS
SELECT id, user_id, created_at, kind, reference, tokens, taken_tokens,
       greatest(0, least(tokens - taken_tokens, paid_tokens - newer_tokens)) AS unspent_tokens
FROM (
    SELECT e.id, e.user_id, e.created_at, e.kind, e.reference, b.paid_tokens,
           coalesce(o.tokens, e.paid_delta) AS tokens,
           coalesce(o.tokens_taken, 0) AS taken_tokens,
           coalesce(
               sum(coalesce(o.tokens, e.paid_delta) - coalesce(o.tokens_taken, 0)) OVER (
                   PARTITION BY e.user_id ORDER BY e.id DESC
                   ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
               ), 0
           )::bigint AS newer_tokens
    FROM ledger_entries e
    JOIN balances b ON b.user_id = e.user_id
    LEFT JOIN orders o ON e.kind = 'purchase' AND o.number = e.reference
    WHERE e.paid_delta > 0 AND e.kind <> 'purchase_restored'
      AND NOT (e.kind = 'purchase' AND e.reference LIKE '%/%')
) entries;
"""

LOTS_BEFORE = """
CREATE OR REPLACE VIEW lots AS
SELECT id, user_id, created_at, kind, reference, tokens, taken_tokens,
       greatest(0, least(tokens - taken_tokens, paid_tokens - newer_tokens)) AS unspent_tokens
FROM (
    SELECT e.id, e.user_id, e.created_at, e.kind, e.reference, b.paid_tokens,
           e.paid_delta AS tokens,
           coalesce(o.tokens_taken, 0) AS taken_tokens,
           coalesce(
               sum(e.paid_delta - coalesce(o.tokens_taken, 0)) OVER (
                   PARTITION BY e.user_id ORDER BY e.id DESC
                   ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
               ), 0
           )::bigint AS newer_tokens
    FROM ledger_entries e
    JOIN balances b ON b.user_id = e.user_id
    LEFT JOIN orders o ON e.kind = 'purchase' AND o.number = e.reference
    WHERE e.paid_delta > 0 AND e.kind <> 'purchase_restored'
) entries;
"""


def upgrade() -> None:
    op.add_column(
        "orders",
        sa.Column("credited_surplus_minor", sa.BigInteger(), server_default="0", nullable=False),
    )
    op.execute(LOTS)


def downgrade() -> None:
    op.execute(LOTS_BEFORE)
    op.drop_column("orders", "credited_surplus_minor")
