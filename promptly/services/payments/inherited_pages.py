"""Payments on checkout pages of the gateway that was imported, around the switch.

Its customers may pay a page that they opened before. Such a page names no order of promptly, so
its webhook is ignored like those of any other shop with the same provider account. For a week
after an import, it becomes a case for the operator instead.
"""

from datetime import timedelta

from sqlalchemy import text

from promptly.extensions import db
from promptly.services.payments import cases, orders
from promptly.services.payments.snapshot import ProviderSnapshot

# Stripe's pages last a day; a Bitcoin invoice may be marked as paid by hand days later.
EXPECTED_FOR = timedelta(days=7)

SWEEP_NAME = "import"

_EXPECT = text("""
INSERT INTO sweep_states (name, last_run_at) VALUES (:name, now())
ON CONFLICT (name) DO UPDATE SET last_run_at = now()
""")
_IS_EXPECTED = text("""
SELECT EXISTS (SELECT FROM sweep_states WHERE name = :name AND last_run_at > now() - :age)
""")


def expect() -> None:
    """Expect payments on pages of another gateway from now on, for a week."""
    db.session.execute(_EXPECT, {"name": SWEEP_NAME})


def note(snapshot: ProviderSnapshot) -> bool:
    """Raise a case if a page that promptly did not create was paid; return whether it did."""
    values = {"name": SWEEP_NAME, "age": EXPECTED_FOR}
    if not snapshot.has_money or not db.session.scalar(_IS_EXPECTED, values):
        return False
    if orders.id_of(snapshot.provider, checkout_id=snapshot.checkout_id) is not None:
        # A purchase that was imported.
        return False
    cases.raise_unknown(snapshot)
    return True
