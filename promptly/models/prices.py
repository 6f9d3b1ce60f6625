"""Versions of the prices of models."""

from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, Identity, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from promptly.models.base import Base, Created
from promptly.prices import Price


class PriceVersion(Base):
    """The price of a model, or of `*`, during a time, in hundredths of a token.

    Holds and usage events name the version that they are charged by, so a trigger allows only its
    end to be entered. Version 1 charges what was counted: all rows from before there were prices
    have it, and those that an older release writes.
    """

    __tablename__ = "prices"

    id: Mapped[int] = mapped_column(Integer, Identity(always=False, start=2), primary_key=True)
    model: Mapped[str] = mapped_column(Text)
    input: Mapped[int] = mapped_column(Integer)
    cached: Mapped[int] = mapped_column(Integer)
    output: Mapped[int] = mapped_column(Integer)
    valid_from: Mapped[Created]
    valid_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        CheckConstraint(
            "input >= 0 AND input <= 100000 AND cached >= 0 AND cached <= 100000"
            " AND output >= 0 AND output <= 100000",
            name="in_range",
        ),
        CheckConstraint("valid_until >= valid_from", name="ends_after_start"),
        Index(
            "uq_prices_model_valid",
            "model",
            unique=True,
            postgresql_where=text("valid_until IS NULL"),
        ),
    )

    @property
    def price(self) -> Price:
        """The price as the arithmetic takes it."""
        return Price(self.input, self.cached, self.output, self.id)
