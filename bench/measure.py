"""One run: a load generator against one target, with samples of CPU time and memory around it."""

import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench import cpu, scraping
from bench.client import Plan
from bench.system import ROOT, SERVICE_CPU, System
from bench.targets import Target

LATE_WORK_SECONDS = 0.5  # work after the last answer is part of the answers' cost


@dataclass
class Clocks:
    """CPU seconds used so far."""

    target: float
    postgres: float
    redis: float
    bench: float
    """The benchmark with all its children, including the measured servers."""
    machine: float
    """Everything that runs on this machine."""
    wall: float
    """Elapsed time (monotonic clock), not CPU time."""

    def since(self, earlier: "Clocks") -> "Clocks":
        """Return the difference from an earlier sample."""
        return Clocks(
            self.target - earlier.target,
            self.postgres - earlier.postgres,
            self.redis - earlier.redis,
            self.bench - earlier.bench,
            self.machine - earlier.machine,
            self.wall - earlier.wall,
        )


@dataclass
class Run:
    """Cost of one run of a plan, and what the load generator measured (see ``bench.load``)."""

    target: str
    seen: dict[str, Any]
    spent: Clocks
    window: Clocks | None = None
    """CPU time of the part in which all paced streams ran; None in other plans."""
    window_chunks: int = 0
    open_kib: int = 0
    """Memory of the target at the end of that part."""

    @property
    def errors(self) -> dict[str, int]:
        """Numbers of wrong answers by what was wrong with them."""
        errors: dict[str, int] = self.seen["errors"]
        return errors

    def micros(self, name: str, per: str) -> float:
        """Return CPU microseconds of ``target``, ``postgres`` or ``redis`` per item of ``per``."""
        spent: float = getattr(self.spent, name)
        return spent * 1e6 / max(1, int(self.seen[per]))

    def foreign_cores(self) -> float:
        """Return the number of cores other programs kept busy, which makes a run untrustworthy."""
        return max(0.0, (self.spent.machine - self.spent.bench) / self.spent.wall)

    def window_micros(self) -> float:
        """Return the target's CPU microseconds per chunk while all paced streams ran."""
        return self.window.target * 1e6 / max(1, self.window_chunks) if self.window else 0.0


def clocks(system: System, target: Target) -> Clocks:
    """Sample all CPU times; 0 for a PostgreSQL or Redis on another machine."""
    postgres, server = system.postgres_pid, target.redis_pid
    return Clocks(
        cpu.seconds(target.service.pid),
        cpu.seconds(postgres) if postgres else 0.0,
        cpu.seconds(server) if server else 0.0,
        cpu.seconds(os.getpid()),
        cpu.busy_seconds(),
        time.monotonic(),
    )


class Generator:
    """A load generator process, connected and warmed up, that waits for ``go``."""

    def __init__(self, plan: Plan) -> None:
        command = [sys.executable, "-m", "bench.load"]
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
        self._tell(json.dumps(asdict(replace(plan, cpu=SERVICE_CPU))))
        self.wait("ready")

    def __enter__(self) -> "Generator":
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.kill()
        self._popen.wait()
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                stream.close()

    def go(self) -> None:
        """Start the plan."""
        self._tell("go")

    def wait(self, *names: str) -> dict[str, Any]:
        """Return the next event, which must be one of these."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            raise RuntimeError("the load generator died; its traceback is above")
        event: dict[str, Any] = json.loads(line)
        if event["event"] not in names:
            raise RuntimeError(f"expected {names}, got {event}")
        return event

    def _tell(self, line: str) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write(line + "\n")
        self._popen.stdin.flush()


def plan_for(target: Target, plan: Plan) -> Plan:
    """Return the plan with the address, key and headers of a server."""
    return replace(plan, port=target.port, key=target.key, headers=target.headers)


def measure(system: System, target: Target, plan: Plan) -> Run:
    """Run a plan against a target, which Prometheus would scrape meanwhile if it can."""
    scraped = scraping.every_second(target.port) if target.has_metrics else nullcontext()
    with Generator(plan_for(target, plan)) as generator, scraped:
        time.sleep(LATE_WORK_SECONDS)
        before = clocks(system, target)
        generator.go()
        window, window_chunks, open_kib = None, 0, 0
        event = generator.wait("steady", "done")
        if event["event"] == "steady":
            first, first_chunks = clocks(system, target), event["chunks"]
            event = generator.wait("window", "done")
            if event["event"] == "window":
                window = clocks(system, target).since(first)
                window_chunks = event["chunks"] - first_chunks
                open_kib = cpu.pss_kib(target.service.pid)
                event = generator.wait("done")
        time.sleep(LATE_WORK_SECONDS)
        spent = clocks(system, target).since(before)
        return Run(target.name, event, spent, window, window_chunks, open_kib)
