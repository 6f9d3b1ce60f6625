"""TCP sockets as the kernel lists them, in the network namespace of any process."""

import os
from pathlib import Path

LISTEN = "0A"
ESTABLISHED = "01"


def queued(port: int) -> int:
    """Return how many established connections to a local port wait to be accepted."""
    for fields in _sockets("self"):
        # The fifth column of a listening socket holds the length of its accept queue (rx_queue).
        if fields[3] == LISTEN and _port(fields[1]) == port:
            return int(fields[4].partition(":")[2], 16)
    return 0


def connected(pid: int, port: int) -> int:
    """Return how many connections to a remote port a process has; 0 if there is no process."""
    try:
        own = {
            os.readlink(link).removeprefix("socket:[").removesuffix("]")
            for link in Path(f"/proc/{pid}/fd").iterdir()
        }
        found = _sockets(str(pid))
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(
        fields[3] == ESTABLISHED and _port(fields[2]) == port and fields[9] in own
        for fields in found
    )


def _sockets(process_id: str) -> list[list[str]]:
    text = Path(f"/proc/{process_id}/net/tcp").read_text()
    return [line.split() for line in text.splitlines()[1:]]


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
