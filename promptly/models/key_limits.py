"""Limits of single keys that holds take a part of."""

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Integer
from sqlalchemy.orm import Mapped, mapped_column

from promptly.models.base import Base, Moment, Tokens
from promptly.models.states import CapPeriod, State, one_of


class KeyLimit(Base):
    """The cap of a key or its number of requests at a time, and what is used of both.

    A key without either has no row; `balances.limited_keys` counts an account's rows. All of it is
    read and changed only under the lock of the account's balance.
    """

    __tablename__ = "key_limits"

    key_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[int] = mapped_column(BigInteger, index=True)
    cap_tokens: Mapped[int | None] = mapped_column(BigInteger)
    cap_period: Mapped[CapPeriod | None] = mapped_column(State(CapPeriod))
    concurrent_requests: Mapped[int | None] = mapped_column(Integer)
    # Of the period that `used_tokens` belongs to; the first step in a later one starts it anew.
    period_start: Mapped[Moment]
    # Charged by requests that were settled in this period.
    used_tokens: Mapped[Tokens]
    # Of the key's open holds, as in balances.
    held_tokens: Mapped[Tokens]
    open_holds: Mapped[int] = mapped_column(Integer, server_default="0")

    __table_args__ = (
        CheckConstraint("cap_tokens > 0", name="cap_tokens"),
        CheckConstraint("(cap_tokens IS NULL) = (cap_period IS NULL)", name="cap_has_period"),
        CheckConstraint(one_of("cap_period", CapPeriod), name="cap_period"),
        CheckConstraint("concurrent_requests > 0", name="concurrent_requests"),
        CheckConstraint(
            "used_tokens >= 0 AND held_tokens >= 0 AND open_holds >= 0", name="not_negative"
        ),
        {"postgresql_with": {"fillfactor": "50"}},
    )
