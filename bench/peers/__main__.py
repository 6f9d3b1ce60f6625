"""Measures LiteLLM, Portkey and nginx like promptly: ``python -m bench.peers --help``."""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import results
from bench.cases import Section, Watch, foreign_cores, table
from bench.peers import install, scenarios
from bench.peers.servers import SERVERS
from bench.signals import exit_on_signals
from bench.system import System
from sandbox.process import SandboxError


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; exit with a message if it makes no sense."""
    parser = argparse.ArgumentParser(prog="bench.peers", description=__doc__)
    parser.add_argument("--only", default="", help=f"some of: {','.join(SERVERS)}")
    parser.add_argument("--rounds", type=int, help="default 5, quick 1")
    parser.add_argument("--quick", action="store_true", help="short rounds, for a first look")
    parser.add_argument("--json", type=Path, help="where the results go besides bench/results/")
    parser.add_argument("--verbose", action="store_true", help="print every run")
    parser.add_argument("--install", action="store_true", help="install the peers, measure nothing")
    options = parser.parse_args(arguments)
    wanted = [name for name in options.only.split(",") if name] or list(SERVERS)
    unknown = sorted(set(wanted) - set(SERVERS))
    if unknown:
        parser.error(f"no such server: {', '.join(unknown)}")
    options.names = [name for name in SERVERS if name in wanted]
    options.rounds = options.rounds or (1 if options.quick else 5)
    return options


def measure(options: argparse.Namespace, system: System) -> list[Section]:
    """Start the servers, run all scenarios, and print each table when it is complete."""
    rounds, quick = options.rounds, options.quick
    watch: Watch = results.print_run if options.verbose else results.print_errors
    sections = []
    with ExitStack() as stack:
        targets = []
        for name in options.names:
            results.say(f"{name} ...")
            targets.append(SERVERS[name](system))
            stack.callback(targets[-1].service.stop)
        seconds = 2.0 if quick else 4.0
        for run in (scenarios.plain_answers, scenarios.burst_streams):
            sections.append(run(system, targets, rounds, seconds, watch))
            print(table(sections[-1]), flush=True)
        sections.append(scenarios.paced_streams(system, targets, seconds, watch))
        print(table(sections[-1]), flush=True)
    return sections


def main() -> int:
    """Return 1 if a server did not start or an answer was wrong, otherwise 0."""
    options = parse()
    started = time.monotonic()
    exit_on_signals()
    try:
        if options.install:
            install.litellm()
            install.portkey()
            return 0
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, System(Path(folder)) as system:
            sections = measure(options, system)
            result = results.facts(system, options.rounds, foreign_cores(sections))
    except SandboxError as problem:
        results.say(str(problem))
        return 1
    result["seconds"] = round(time.monotonic() - started, 1)
    result["sections"] = [section.as_json() for section in sections]
    results.report_end(result, results.save(result, options.json))
    return 1 if any(section.wrong for section in sections) else 0


if __name__ == "__main__":
    sys.exit(main())
