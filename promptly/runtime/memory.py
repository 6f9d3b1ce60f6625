"""Gives the memory of large bodies back to the system soon after they are freed.

Fresh memory costs 0.6 ms per MB, since the system clears it. So blocks of the size of agents'
prompts stay on the heap, for the next ones. After a second without any it is trimmed to a few MiB.
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

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
# Calls of `trim` until the heap is trimmed; None: it was.
_trims_in: int | None = None


def return_large_blocks() -> None:
    """Set up glibc's allocator; call this once in each worker. Other allocators are left alone.

    glibc raises the threshold to the largest block ever freed, up to 32 MiB. Later bodies then lie
    on heaps, one for each thread, which keep what they once held: a worker that has decoded a few
    large bodies stays as large as they were, and grows further with the next ones.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, SPARE_BYTES)
        mallopt(_M_ARENA_MAX, 1)


def note_large_body() -> None:
    """Let the second `trim` from here on return free pages."""
    global _trims_in
    _trims_in = 2


def trim() -> None:
    """Return the heap's free pages if there was a large body, and none since the last call.

    The heap shrinks by itself only at its end, where one small block keeps all below it.
    """
    global _trims_in
    if _trims_in is None:
        return
    _trims_in -= 1
    if _trims_in:
        return
    _trims_in = None
    malloc_trim = getattr(_libc, "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(ctypes.c_size_t(SPARE_BYTES))
