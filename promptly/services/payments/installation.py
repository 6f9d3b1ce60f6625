"""The installation's id, which its pages at the providers carry.

Several installations may share a Stripe account or a BTCPay store; each sees the pages and events
of all, and leaves those of the others alone.
"""

import secrets

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from promptly.extensions import db
from promptly.models import Installation
from promptly.services.payments.snapshot import ProviderSnapshot


def instance_id() -> str:
    """Return this installation's id, created at first use: random, and the same for its life."""
    query = select(Installation.instance_id)
    known = db.session.scalar(query)
    if known is not None:
        return known
    new = insert(Installation).values(id=1, instance_id=secrets.token_hex(8))
    db.session.execute(new.on_conflict_do_nothing())
    return db.session.scalars(query).one()


def is_foreign(snapshot: ProviderSnapshot) -> bool:
    """Whether another installation created a page; pages from before carry no id."""
    return snapshot.instance_id not in {None, instance_id()}
