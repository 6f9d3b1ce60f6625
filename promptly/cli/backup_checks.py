"""The doctor's check of when the newest backup was made."""

from collections.abc import Iterator

from promptly.services import overview


def findings() -> Iterator[tuple[str, str]]:
    """Yield a pair of level and message."""
    made_at = overview.backup_at()
    if made_at is None:
        yield "warning", "none has been recorded: see docs/operating/backup.md"
        return
    level = "ok" if overview.late_backup_at() is None else "warning"
    yield level, f"the newest was made on {made_at:%Y-%m-%d at %H:%M} UTC"
