"""Gives the memory of large bodies back to the system as soon as they are freed.

Fresh memory costs 0.6 ms per MB, since the system clears it. So blocks of the size of agents'
prompts stay on the heap, of which a few MiB are kept for the next ones.
"""

import ctypes
import sys

# From this size on, a block is a mapping of its own, and leaves the process when it is freed.
LARGE_BYTES = 2 * 1024 * 1024
# So much at the end of the heap is kept, although nothing uses it.
SPARE_BYTES = 4 * 1024 * 1024

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def return_large_blocks() -> None:
    """Set up glibc's allocator; call this once in each worker. Other allocators are left alone.

    glibc raises the threshold to the largest block ever freed, up to 32 MiB. Later bodies then lie
    on heaps, one for each thread, which keep what they once held: a worker that has decoded a few
    large bodies stays as large as they were, and grows further with the next ones.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, SPARE_BYTES)
        mallopt(_M_ARENA_MAX, 1)
