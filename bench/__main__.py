"""``python -m bench``: start everything, run the scenarios, print the table, save the JSON."""

import argparse
import json
import platform
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench import comparison
from bench.base_commit import base_and_now
from bench.measure import Run
from bench.profile import Profiler
from bench.report import Figure, table
from bench.rounds import Bench
from bench.scenarios import SCENARIOS
from bench.system import ROOT, SERVICE_CPU, TARGET_CPU, System
from bench.targets import Target, start_gateway, start_nginx
from sandbox.checkout import Code, describe, resolve
from sandbox.process import SandboxError

_RESULTS = ROOT / "bench" / "results"
_QUIET_CORES = 0.1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="The gateway's cost next to nginx.")
    parser.add_argument("--quick", action="store_true", help="short rounds, for a first look")
    parser.add_argument("--base", metavar="COMMIT", help="compare with this commit")
    rounds = "rounds per scenario (default 3, quick 1; with --base 9, quick 7, at least 7)"
    parser.add_argument("--rounds", type=int, help=rounds)
    parser.add_argument("--only", default="", help=f"some of: {','.join(SCENARIOS)}")
    parser.add_argument("--json", type=Path, help="where the results go besides bench/results/")
    parser.add_argument("--verbose", action="store_true", help="print every run")
    parser.add_argument("--profile", action="store_true", help="py-spy the gateway's worker")
    options = parser.parse_args()
    options.names = [name for name in options.only.split(",") if name] or list(SCENARIOS)
    unknown = sorted(set(options.names) - set(SCENARIOS))
    if unknown:
        parser.error(f"no such scenario: {', '.join(unknown)}")
    if options.base and options.profile:
        parser.error("--profile measures the current tree only")
    usual, quick = (9, comparison.MINIMUM_ROUNDS) if options.base else (3, 1)
    options.rounds = options.rounds or (quick if options.quick or options.profile else usual)
    if options.base and options.rounds < comparison.MINIMUM_ROUNDS:
        parser.error(f"--base needs at least {comparison.MINIMUM_ROUNDS} rounds")
    return options


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _print_run(target: Target, run: Run) -> None:
    seen = {name: value for name, value in run.seen.items() if name != "event" and value}
    spent = f"{run.spent.target:.2f} s, PostgreSQL {run.spent.postgres:.2f} s"
    _say(f"    {target.name:8}{spent}, others {run.foreign_cores():.2f} cores; {json.dumps(seen)}")


def _print_errors(target: Target, run: Run) -> None:
    for message, times in run.errors.items():
        _say(f"    {target.name}: {times} x {message}")


def _measure(options: argparse.Namespace, bench: Bench) -> list[Figure]:
    figures = []
    for name in options.names:
        _say(f"{name} ...")
        figures += SCENARIOS[name](bench)
    pids = {"_postgres": bench.system.postgres_pid, "_redis": bench.gateway.redis_pid}
    remote = tuple(name for name, pid in pids.items() if pid is None)
    return [figure for figure in figures if not figure.name.endswith(remote)]


def _facts(bench: Bench) -> dict[str, object]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, Linux {platform.release()}",
        "cpus": {"measured": TARGET_CPU, "everything else": SERVICE_CPU},
        "postgres": bench.system.postgres_settings(),
        "rounds": bench.rounds,
        "foreign_cores": round(bench.foreign_cores(), 3),
        "runs": {name: [asdict(run) for run in runs] for name, runs in bench.runs.items()},
    }


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
        bench.watch = _print_run if options.verbose else _print_errors
        if options.profile:
            bench.around = Profiler(directory).around
        figures = _measure(options, bench)
        if any(figure.errors for figure in figures):
            for target in filter(None, (gateway, base)):
                log = shutil.copy(target.service.log, _RESULTS / f"{target.name}.log")
                _say(f"wrong answers; the {target.name}'s log is kept in {log}")
        return figures, _facts(bench)


def _exit_on_signals() -> None:
    """Let a signal end the benchmark by an exception, so that the base's checkout is removed."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores one
            signal.signal(number, lambda signum, _: sys.exit(128 + signum))


def _compare(options: argparse.Namespace, figures: list[Figure], facts: dict[str, object]) -> bool:
    """Print the comparison and add it to the facts; return whether the current tree passes."""
    comparisons = comparison.compare(figures)
    print(f"base {options.base} ({options.commit[:12]}), now {options.now}")
    print(comparison.table(comparisons))
    facts |= {"base": options.commit, "now": options.now}
    facts["comparisons"] = [row.as_json() for row in comparisons]
    return not any(row.failed for row in comparisons)


def main() -> int:
    """Return 1 if a service did not start, an answer was wrong or a cost has risen, otherwise 0."""
    options = _options()
    if TARGET_CPU == SERVICE_CPU:
        _say("warning: one core only; everything shares it, so the rates mean little")
    started = time.monotonic()
    _RESULTS.mkdir(exist_ok=True)
    try:
        if options.base:
            _exit_on_signals()
            options.commit, options.now = resolve(ROOT, options.base), describe(ROOT)
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            figures, facts = _run(options, Path(directory))
    except SandboxError as problem:
        _say(str(problem))
        return 1
    passes = True
    if options.base:
        passes = _compare(options, figures, facts)
    else:
        print(table(figures))
    facts["seconds"] = round(time.monotonic() - started, 1)
    result = json.dumps({**facts, "figures": [figure.as_json() for figure in figures]}, indent=1)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for path in (_RESULTS / f"{stamp}.json", options.json):
        if path is not None:
            path.write_text(result + "\n")
    if float(str(facts["foreign_cores"])) > _QUIET_CORES:
        _say(
            f"\nDISTURBED: other programs kept {facts['foreign_cores']} cores busy meanwhile."
            " Repeat it on a quiet machine."
        )
    _say(f"\n{facts['seconds']} s, {facts['rounds']} rounds, see bench/results/{stamp}.json")
    return 0 if passes and not any(figure.errors for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
