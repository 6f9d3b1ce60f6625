"""CPU time and memory of a process tree, including children that have exited (Linux).

CPU time comes from each process's own clock (``clock_getcpuclockid``), which counts nanoseconds of
all threads, plus, for reaped children, ``cutime`` and ``cstime``, which count in ticks of 10 ms. A
child that exits between two samples moves from the first term to the second, so the difference
of two samples stays correct.
"""

import os
import time
from collections import defaultdict
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on: the name before may hold spaces."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def parent(pid: int) -> int:
    """Return the process id of a process's parent."""
    return int(_stat(pid)[1])


def tree(root: int) -> list[int]:
    """Return a process and all its living descendants."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                children[parent(int(entry.name))].append(int(entry.name))
            except OSError:
                continue
    found = [root]
    for pid in found:
        found.extend(children[pid])
    return found


def _clock(pid: int) -> int:
    """Return the clock id of a process's CPU time, as the kernel encodes it."""
    return (~pid << 3) | 2


def seconds(root: int) -> float:
    """Return the CPU time of a tree since its start, in seconds."""
    total = 0.0
    for pid in tree(root):
        try:
            fields = _stat(pid)
            total += time.clock_gettime(_clock(pid)) + (int(fields[13]) + int(fields[14])) / _TICK
        except OSError:
            continue
    return total


def busy_seconds() -> float:
    """Return the busy seconds since boot of all cores together, without idle and I/O wait."""
    fields = (_PROC / "stat").read_text().split("\n", 1)[0].split()
    user, nice, system, _idle, _iowait, irq, softirq = map(int, fields[1:8])
    return (user + nice + system + irq + softirq) / _TICK


def pss_kib(root: int) -> int:
    """Return the memory of a tree in KiB; a page shared by its processes counts once (PSS)."""
    total = 0
    for pid in tree(root):
        try:
            text = (_PROC / str(pid) / "smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total
