"""The end of a run: wait until promptly has settled, recovered and applied everything."""

import time

from prove.scene import Scene

# Holds of a dead process end within 90 s; a slow machine and the last outage add to that.
DRAIN_SECONDS = 180.0
# A settlement whose hold PostgreSQL has lost is retried every second, and shows nowhere.
QUIET_SECONDS = 4.0
WAITING = """
SELECT (SELECT count(*) FROM holds WHERE state = 'open')
     + (SELECT count(*) FROM webhook_events WHERE state = 'pending') AS number
"""


def drain(scene: Scene) -> None:
    """Wait until no hold is open and no webhook waits any more, or until the time is up.

    Whatever is left then is a difference in the table.
    """
    deadline = time.monotonic() + DRAIN_SECONDS
    busy_at = time.monotonic()
    while time.monotonic() < min(deadline, busy_at + QUIET_SECONDS):
        [row] = scene.books.rows(WAITING)
        if row["number"]:
            busy_at = time.monotonic()
        time.sleep(0.5)
