"""The end of a run: wait until promptly has settled, recovered and applied everything."""

import time
from collections.abc import Callable

from prove.scene import Scene

# Holds of a dead web process end within 90 s, leases of a dead Celery worker within 250 s.
DRAIN_SECONDS = 300.0
# A settlement whose hold PostgreSQL has lost is retried every second, and shows nowhere.
QUIET_SECONDS = 4.0
WAITING = """
SELECT (SELECT count(*) FROM holds WHERE state = 'open') AS holds,
       (SELECT count(*) FROM webhook_events WHERE state = 'pending') AS webhooks
"""
REPORT_SECONDS = 15.0


def drain(scene: Scene, say: Callable[[str], None]) -> None:
    """Wait until no hold is open and no webhook waits any more, or until the time is up.

    Whatever is left then is a difference in the table. `say` gets lines of progress.
    """
    deadline = time.monotonic() + DRAIN_SECONDS
    busy_at = reported_at = time.monotonic()
    while (now := time.monotonic()) < min(deadline, busy_at + QUIET_SECONDS):
        [row] = scene.books.rows(WAITING)
        if any(row.values()):
            busy_at = now
        if now > reported_at + REPORT_SECONDS:
            reported_at = now
            say(f"open holds: {row['holds']}, webhooks waiting: {row['webhooks']}")
        time.sleep(0.5)
