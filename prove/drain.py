"""The end of a run: wait until promptly has settled, recovered and applied everything."""

import time
from collections.abc import Callable

from prove.scene import Scene

LOOK_SECONDS = 0.5
# Holds of a dead web process end within 90 s, leases of a dead Celery worker within 250 s. Looks
# are counted, not seconds, because a machine that stands still gets nothing done either.
MOST_LOOKS = 600
# A settlement whose hold PostgreSQL has lost is retried every second, and shows nowhere.
QUIET_LOOKS = 8
REPORT_SECONDS = 15.0
WAITING = """
SELECT (SELECT count(*) FROM holds WHERE state = 'open') AS holds,
       (SELECT count(*) FROM webhook_events WHERE state = 'pending') AS webhooks
"""


def drain(scene: Scene, say: Callable[[str], None]) -> None:
    """Wait until no hold is open and no webhook waits any more, or until the looks are used up.

    Whatever is left then is a difference in the table. `say` gets lines of progress.
    """
    quiet, reported_at = 0, time.monotonic()
    for _ in range(MOST_LOOKS):
        [row] = scene.books.rows(WAITING)
        quiet = 0 if any(row.values()) else quiet + 1
        if quiet == QUIET_LOOKS:
            return
        if time.monotonic() > reported_at + REPORT_SECONDS:
            reported_at = time.monotonic()
            say(f"open holds: {row['holds']}, webhooks waiting: {row['webhooks']}")
        time.sleep(LOOK_SECONDS)
