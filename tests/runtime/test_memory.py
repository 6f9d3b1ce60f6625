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


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's allocator is set up")
def test_large_blocks_leave_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) < 8 * 1024 * 1024
