"""Records of running the installation: verifications, alerts to the operator, model servers."""

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, DateTime, Index, Integer, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from promptly.models.base import Base, BigId, Created, Moment


class LedgerVerification(Base):
    """The result of one verification of all balances; `differences` counts differing figures."""

    __tablename__ = "ledger_verifications"

    id: Mapped[BigId]
    started_at: Mapped[Moment]
    finished_at: Mapped[Moment]
    differences: Mapped[int] = mapped_column(Integer)


class OperatorAlert(Base):
    """Something that was mailed to the operator; it counts as reported until `ended_at`."""

    __tablename__ = "operator_alerts"

    id: Mapped[BigId]
    topic: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    created_at: Mapped[Created]
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        Index(
            "uq_operator_alerts_topic_subject",
            "topic",
            "subject",
            unique=True,
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index("ix_operator_alerts_created_at", "topic", "created_at"),
    )


class ModelServerOutage(Base):
    """A model server that did not answer its last probe, at `seen_at`; gone when it answers."""

    __tablename__ = "model_server_outages"

    server: Mapped[str] = mapped_column(Text, primary_key=True)
    since: Mapped[Moment]
    seen_at: Mapped[Moment]


class DrainedUpstream(Base):
    """A model server that gets no new request until it is resumed.

    `by` is the actor, as in the audit log.
    """

    __tablename__ = "drained_upstreams"

    url: Mapped[str] = mapped_column(Text, primary_key=True)
    since: Mapped[Created]
    by: Mapped[str] = mapped_column(Text)
    note: Mapped[str | None] = mapped_column(Text)


class UpstreamModels(Base):
    """The models that a model server held when it last answered: [name, aliases, context]."""

    __tablename__ = "upstream_models"

    url: Mapped[str] = mapped_column(Text, primary_key=True)
    is_router: Mapped[bool] = mapped_column(Boolean)
    models: Mapped[list[Any]] = mapped_column(JSONB)
    written_at: Mapped[Created]
