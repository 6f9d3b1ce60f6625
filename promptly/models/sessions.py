"""Sessions of the dashboard, and the panel's sessions that were signed out."""

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, DateTime, ForeignKey, Index, LargeBinary, Text
from sqlalchemy.orm import Mapped, mapped_column

from promptly.models.base import Base, BigId, Created


class DashboardSession(Base):
    """A browser that is signed in with a key, known by the hash of a random token in its cookie."""

    __tablename__ = "sessions"

    id: Mapped[BigId]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    key_id: Mapped[int] = mapped_column(BigInteger)
    # Shared by all cookies of a key that releases without this table have set.
    adopted: Mapped[bool] = mapped_column(Boolean, server_default="false")
    # As its owner sees them, from the sign-in: "Firefox on Linux", "203.0.113.0/24".
    browser: Mapped[str] = mapped_column(Text)
    network: Mapped[str] = mapped_column(Text)
    created_at: Mapped[Created]
    # Rounded down to the hour, so that it is written once an hour at most.
    seen_at: Mapped[Created]
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (Index("ix_sessions_user_id", "user_id", "id"),)


class EndedPanelSession(Base):
    """A session of the panel that was signed out before it expired."""

    __tablename__ = "ended_panel_sessions"

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    ended_at: Mapped[Created]
