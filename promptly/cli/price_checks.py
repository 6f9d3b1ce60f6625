"""Check that requests are charged by PRICES as this process reads them."""

from collections.abc import Iterator

from sqlalchemy.exc import SQLAlchemyError

from promptly.extensions import db
from promptly.services.metering import price_versions
from promptly.settings import Settings


def findings(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield pairs of level and message."""
    try:
        changes = price_versions.differences(settings.prices)
    except SQLAlchemyError:
        # The checks of PostgreSQL and migrations report it.
        db.session.rollback()
        return
    if not changes:
        yield "ok", "in force as in PRICES"
        return
    found = ", ".join(
        f"{model} costs {price or 'what * does'}, PRICES has {wanted or 'no price for it'}"
        for model, (price, wanted) in changes.items()
    )
    yield "warning", f"{found}: a gateway puts its PRICES in force when it starts"
