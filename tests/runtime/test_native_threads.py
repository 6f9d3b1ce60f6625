import subprocess
import sys

import pytest

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

# Arguments are freed with the exception, without garbage collection.
FAILURES_UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import gc, weakref
import gevent
from promptly.runtime import native_threads
gc.disable()
class Body(bytearray):
    pass
def refuse(body):
    raise ValueError
def run():
    body = Body()
    kept = weakref.ref(body)
    try:
        native_threads.call(refuse, body)
    except ValueError:
        pass
    return kept
kept = run()
# The thread itself lets go when it looks for more to do.
for _ in range(500):
    if kept() is None:
        print("done")
        break
    gevent.sleep(0.01)
"""


@pytest.mark.parametrize("program", [UNDER_GEVENT, FAILURES_UNDER_GEVENT])
def test_under_gevent(program: str) -> None:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "done\n"


def test_without_gevent() -> None:
    assert native_threads.call(int, "ff", base=16) == 255
