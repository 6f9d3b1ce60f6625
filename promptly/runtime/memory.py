"""Gives the memory of large bodies back to the system soon after they are freed.

Fresh memory costs 0.6 ms per MB, since the system clears it. So blocks of the size of agents'
prompts stay on the heap, for the next ones; once a second it is trimmed to a few spare MiB.
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
_needs_trim = False


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
    """Let the next `trim` look for free pages."""
    global _needs_trim
    _needs_trim = True


def trim() -> None:
    """Return the heap's free pages if a large body was noted since the last call.

    The heap shrinks by itself only at its end, where one small block keeps all below it.
    """
    global _needs_trim
    malloc_trim = getattr(_libc, "malloc_trim", None)
    if _needs_trim and malloc_trim is not None:
        _needs_trim = False
        malloc_trim(ctypes.c_size_t(SPARE_BYTES))
