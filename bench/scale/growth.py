"""Gateways on databases of growing sizes, from ten accounts to a million."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench import scraping
from bench.cases import Case, Row, Section, run_cases
from bench.measure import Clocks, Run, clocks, measure
from bench.plans import plain
from bench.scale.lab import Lab
from bench.scale.slope import describe
from bench.system import ROOT
from bench.targets import Target
from sandbox.process import SandboxError

# With indexes and write-ahead log, while a database is filled.
_BYTES_PER_ACCOUNT = 6_000
_BYTES_PER_EVENT = 500
# Longer than /metrics keeps what it has read from PostgreSQL.
_IDLE_SECONDS = 16.0


@dataclass(frozen=True)
class Size:
    """Accounts, and usage events of the last 90 days."""

    accounts: int
    events: int

    @property
    def title(self) -> str:
        return f"{self.accounts:,} / {self.events:,}"


SIZES = [
    Size(10, 0),
    Size(1_000, 10_000),
    Size(10_000, 100_000),
    Size(100_000, 1_000_000),
    Size(1_000_000, 10_000_000),
]
_QUICK = SIZES[:3]


def chosen(largest: int | None, *, quick: bool) -> list[Size]:
    """Return the sizes up to ``largest`` accounts; by default all, or the small ones."""
    if largest is None:
        return _QUICK if quick else SIZES
    return [size for size in SIZES if size.accounts <= largest]


def needed_bytes(sizes: Sequence[Size]) -> int:
    """Return the disk space to have free before filling databases of these sizes."""
    return sum(
        size.accounts * _BYTES_PER_ACCOUNT + size.events * _BYTES_PER_EVENT for size in sizes
    )


def _check_disk(sizes: Sequence[Size]) -> None:
    needed, free = needed_bytes(sizes), shutil.disk_usage(tempfile.gettempdir()).free
    if free < needed:
        raise SandboxError(
            f"the databases need {needed / 1e9:.0f} GB in {tempfile.gettempdir()}, which has "
            f"{free / 1e9:.0f}: choose less with --largest, or name another folder in TMPDIR"
        )


def _case(lab: Lab, size: Size, seconds: float) -> Case:
    lab.say(f"  {size.title} ...")
    stores = lab.stores(f"accounts{size.accounts}")
    command = [sys.executable, "-m", "bench.scale.fill", stores.database_url]
    command += [str(size.accounts), str(size.events)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, env=os.environ, check=False)
    if done.returncode:
        raise SandboxError(f"the database for {size.title} could not be filled")
    plan = plain(32, seconds, bare_proxy=False)
    plan.keys = json.loads(done.stdout)
    return Case(size.title, lab.start(f"accounts{size.accounts}", stores), plan)


def _idle(lab: Lab, target: Target) -> Clocks:
    """Return the time used while the gateway is scraped and has no requests."""
    with scraping.every_second(target.port):
        before = clocks(lab.system, target)
        time.sleep(lab.seconds(_IDLE_SECONDS, 3.0))
        return clocks(lab.system, target).since(before)


def net_micros(run: Run, idle: Clocks, part: str) -> float:
    """Return CPU microseconds per request of ``target``, ``postgres`` or ``redis``.

    The time that the same processes use without requests, per second, is not counted.
    """
    spent: float = getattr(run.spent, part)
    resting: float = getattr(idle, part)
    own = spent - resting * run.spent.wall / idle.wall
    return own * 1e6 / max(1, int(run.seen["requests"]))


def growth(lab: Lab) -> Section:
    """Measure answers of 16 tokens for up to a thousand busy accounts, in tables of each size."""
    sizes = chosen(lab.largest, quick=lab.quick)
    _check_disk(sizes)
    cases = [_case(lab, size, lab.seconds(4.0, 2.0)) for size in sizes]
    for case in cases:  # the first requests read the tables from disk
        measure(lab.system, case.target, case.plan)
    idle = [_idle(lab, case.target) for case in cases]
    title = "accounts / usage events: a request of 16 tokens"
    section = run_cases(lab.system, "growth", title, cases, lab.rounds, lab.watch)
    for name, part in (("gateway", "target"), ("PostgreSQL", "postgres"), ("Redis", "redis")):
        samples = [
            [net_micros(run, still, part) for run in runs]
            for still, runs in zip(idle, section.runs, strict=True)
        ]
        row = Row(f"{name}'s CPU", "us", samples)
        if len(sizes) > 1:
            row.remark = describe([size.accounts for size in sizes], samples)
        section.rows.append(row)
    resting = [[still.postgres * 1e3 / still.wall] for still in idle]
    section.rows.append(Row("PostgreSQL's CPU without requests, per second", "ms", resting))
    return section
