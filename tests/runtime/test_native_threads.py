import subprocess
import sys

from promptly.runtime import native_threads

# The computation ends only if another greenlet runs meanwhile.
UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent
from promptly.runtime import native_threads
lock = monkey.get_original("_thread", "allocate_lock")()
lock.acquire()
gevent.spawn(lock.release)
assert native_threads.call(lock.acquire) is True
try:
    native_threads.call(int, "x")
except ValueError:
    print("done")
"""


def test_greenlets_go_on() -> None:
    command = [sys.executable, "-c", UNDER_GEVENT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "done\n"


def test_without_gevent() -> None:
    assert native_threads.call(int, "ff", base=16) == 255
