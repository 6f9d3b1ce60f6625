"""``python -m bench``: start everything, run the scenarios, print the table, save the JSON."""

import argparse
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from bench import comparison, results
from bench.base_commit import base_and_now
from bench.options import parse
from bench.profile import Profiler
from bench.report import Figure, table
from bench.results import say
from bench.rounds import Bench
from bench.scale import run as scale
from bench.scenarios import SCENARIOS
from bench.signals import exit_on_signals
from bench.system import ROOT, SERVICE_CPU, TARGET_CPU, System
from bench.targets import Target, start_gateway, start_nginx
from sandbox.checkout import Code, describe, resolve
from sandbox.process import SandboxError


def _measure(options: argparse.Namespace, bench: Bench) -> list[Figure]:
    figures = []
    for name in options.names:
        say(f"{name} ...")
        figures += SCENARIOS[name](bench)
    pids = {"_postgres": bench.system.postgres_pid, "_redis": bench.gateway.redis_pid}
    remote = tuple(name for name, pid in pids.items() if pid is None)
    return [figure for figure in figures if not figure.name.endswith(remote)]


def _facts(bench: Bench) -> dict[str, object]:
    runs = {name: [asdict(run) for run in runs] for name, runs in bench.runs.items()}
    return results.facts(bench.system, bench.rounds, bench.foreign_cores()) | {"runs": runs}


def _start(stack: ExitStack, system: System, name: str, code: Code | None) -> Target:
    stores = None if code is None else stack.enter_context(system.new_stores(name))
    gateway = start_gateway(system, name, code, stores)
    stack.callback(gateway.service.stop)
    return gateway


def _run(options: argparse.Namespace, directory: Path) -> tuple[list[Figure], dict[str, object]]:
    with ExitStack() as stack:
        base_code, code = None, None
        if options.base:
            base_code, code = stack.enter_context(base_and_now(options.commit))
        system = stack.enter_context(System(directory))
        nginx = start_nginx(system)
        stack.callback(nginx.service.stop)
        base = _start(stack, system, "base", base_code) if base_code else None
        gateway = _start(stack, system, "gateway", code)
        bench = Bench(system, gateway, nginx, base, options.rounds, options.quick)
        bench.watch = results.print_run if options.verbose else results.print_errors
        if options.profile:
            bench.around = Profiler(directory).around
        figures = _measure(options, bench)
        if any(figure.errors for figure in figures):
            for target in filter(None, (gateway, base)):
                log = shutil.copy(target.service.log, results.RESULTS / f"{target.name}.log")
                say(f"wrong answers; the {target.name}'s log is kept in {log}")
        return figures, _facts(bench)


def _compare(options: argparse.Namespace, figures: list[Figure], facts: dict[str, object]) -> bool:
    """Print the comparison and add it to the facts; return whether the current tree passes."""
    comparisons = comparison.compare(figures)
    print(f"base {options.base} ({options.commit[:12]}), now {options.now}")
    print(comparison.table(comparisons))
    facts |= {"base": options.commit, "now": options.now}
    facts["comparisons"] = [row.as_json() for row in comparisons]
    return not any(row.failed for row in comparisons)


def _run_and_report(options: argparse.Namespace) -> bool:
    """Measure next to nginx; return whether all answers were right and no cost has risen."""
    started = time.monotonic()
    if options.base:
        options.commit, options.now = resolve(ROOT, options.base), describe(ROOT)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        figures, facts = _run(options, Path(directory))
    passes = True
    if options.base:
        passes = _compare(options, figures, facts)
    else:
        print(table(figures))
    facts["seconds"] = round(time.monotonic() - started, 1)
    facts["figures"] = [figure.as_json() for figure in figures]
    results.report_end(facts, results.save(facts, options.json))
    return passes and not any(figure.errors for figure in figures)


def _run_scale(options: argparse.Namespace) -> bool:
    return scale.run(
        options.names,
        rounds=options.rounds,
        quick=options.quick,
        largest=options.largest,
        copy=options.json,
        verbose=options.verbose,
    )


def main() -> int:
    """Return 1 if a service did not start, an answer was wrong or a cost has risen, otherwise 0."""
    options = parse()
    if TARGET_CPU == SERVICE_CPU:
        say("warning: one core only; everything shares it, so the rates mean little")
    results.RESULTS.mkdir(exist_ok=True)
    exit_on_signals()
    try:
        passes = _run_scale(options) if options.scale else _run_and_report(options)
    except SandboxError as problem:
        say(str(problem))
        return 1
    return 0 if passes else 1


if __name__ == "__main__":
    sys.exit(main())
