"""Memory that large blocks took is returned, also from other threads."""

import subprocess
import sys

import pytest

# A large block is freed while a small one above it stays, on the heap of another thread. The first
# one that is freed makes glibc keep later ones of its size.
PROGRAM = """
import threading
import psutil
from promptly.runtime import memory
memory.return_large_blocks()
size, kept = 16 * 1024 * 1024, []
def work():
    for _ in range(4):
        blocks = [bytes(size) for _ in range(2)]
        kept.append(bytes(100_000))
        del blocks
before = psutil.Process().memory_info().rss
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(psutil.Process().memory_info().rss - before)
"""

# Blocks of the size of agents' prompts are freed while small ones between them stay.
SCATTERED = """
import psutil
from promptly.runtime import memory
memory.return_large_blocks()
rss = lambda: psutil.Process().memory_info().rss
before, blocks, kept, small = rss(), [], [], 2_000
for _ in range(40):
    blocks.append(b"x" * 1_000_000)
    kept.append(b"y" * small)
blocks.clear()
memory.trim()
print(rss() - before)
for _ in range(2):
    # Others follow: the heap is for them.
    memory.note_large_body()
    memory.trim()
print(rss() - before)
memory.trim()
print(rss() - before)
"""


def run(program: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    return [int(line) for line in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's allocator is set up")
def test_large_blocks_leave_the_process() -> None:
    [growth] = run(PROGRAM)
    assert growth < 8 * 1024 * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's allocator is set up")
def test_the_heap_is_trimmed_after_large_bodies() -> None:
    *untouched, trimmed = run(SCATTERED)
    assert min(untouched) > 16 * 1024 * 1024
    assert trimmed < 8 * 1024 * 1024
