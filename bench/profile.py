"""``--profile``: where the gateway's worker spends its time, by py-spy (``pip install py-spy``)."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import cpu
from bench.client import Plan
from bench.system import SERVICE_CPU
from bench.targets import Target
from sandbox.process import SandboxError

_TOP = 40
_SAMPLES_PER_SECOND = 400
_LINE = re.compile(r":\d+\)$")


class Profiler:
    """Records every run against the gateway and prints its functions, most expensive first."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        installed = Path(sys.executable).with_name("py-spy")
        binary = str(installed) if installed.exists() else shutil.which("py-spy")
        if binary is None:
            raise SandboxError("--profile needs py-spy: .venv/bin/pip install py-spy")
        self._binary = binary

    @contextmanager
    def around(self, target: Target, plan: Plan) -> Iterator[None]:
        """Record the worker while the plan runs; nginx is not recorded."""
        if target.bare_proxy:
            yield
            return
        stacks = self._directory / "stacks.txt"
        worker = cpu.tree(target.service.pid)[-1]
        seconds = str(int(plan.seconds + plan.once * plan.ramp_seconds) + 2)
        command = ["taskset", "-c", str(SERVICE_CPU), self._binary, "record", "--nonblocking"]
        command += ["--rate", str(_SAMPLES_PER_SECOND), "--duration", seconds]
        command += ["--format", "raw", "--output", str(stacks), "--pid", str(worker)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as spy:
            yield
            _, complaint = spy.communicate()
        if not stacks.exists():
            raise SandboxError(f"py-spy recorded nothing: {complaint.decode()}")
        sys.stdout.write(summary(stacks.read_text()))
        stacks.unlink()


def summary(raw: str) -> str:
    """Return each function's share of the samples: on top of the stack, and anywhere in it."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, times = line.rpartition(" ")
        if not times.isdigit():  # a file name with line breaks, as code generators invent
            continue
        frames = [_LINE.sub(")", frame) for frame in stack.split(";")]
        own[frames[-1]] += int(times)
        for frame in set(frames):
            whole[frame] += int(times)
    total = sum(own.values()) or 1
    lines = [f"{total} samples"]
    for title, counts in (("own time", own), ("with what it calls", whole)):
        lines += ["", f"  % {title}"]
        lines += [f"{n * 100 / total:5.1f} {name}" for name, n in counts.most_common(_TOP)]
    return "\n".join(lines) + "\n"
