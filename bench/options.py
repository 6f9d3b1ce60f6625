"""The command line of ``python -m bench``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from bench import comparison
from bench.scale.run import DEFAULT_ROUNDS
from bench.scale.scenarios import SCENARIOS as SCALE_SCENARIOS
from bench.scenarios import SCENARIOS


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; exit with a message if it makes no sense."""
    parser = argparse.ArgumentParser(prog="bench", description="The gateway's cost next to nginx.")
    parser.add_argument("--quick", action="store_true", help="short rounds, for a first look")
    parser.add_argument("--base", metavar="COMMIT", help="compare with this commit")
    scale = "measure more workers, streams, accounts, usage events and a flood of unknown keys"
    parser.add_argument("--scale", action="store_true", help=scale)
    largest = "with --scale: accounts of the largest database (default 1000000, quick 10000)"
    parser.add_argument("--largest", type=int, metavar="ACCOUNTS", help=largest)
    rounds = "rounds per scenario (default 3, quick 1; with --base 9, quick 7, at least 7; "
    rounds += f"with --scale {DEFAULT_ROUNDS}, quick 1)"
    parser.add_argument("--rounds", type=int, help=rounds)
    only = f"some of: {','.join(SCENARIOS)}; with --scale {','.join(SCALE_SCENARIOS)}"
    parser.add_argument("--only", default="", help=only)
    parser.add_argument("--json", type=Path, help="where the results go besides bench/results/")
    parser.add_argument("--verbose", action="store_true", help="print every run")
    parser.add_argument("--profile", action="store_true", help="py-spy the gateway's worker")
    options = parser.parse_args(arguments)
    scenarios = list(SCALE_SCENARIOS if options.scale else SCENARIOS)
    options.names = [name for name in options.only.split(",") if name] or scenarios
    unknown = sorted(set(options.names) - set(scenarios))
    if unknown:
        parser.error(f"no such scenario: {', '.join(unknown)}")
    if options.base and options.profile:
        parser.error("--profile measures the current tree only")
    if options.scale and (options.base or options.profile):
        parser.error("--scale measures the current tree, without --profile")
    if options.largest is not None and not options.scale:
        parser.error("--largest belongs to --scale")
    options.rounds = options.rounds or _usual_rounds(options)
    if options.base and options.rounds < comparison.MINIMUM_ROUNDS:
        parser.error(f"--base needs at least {comparison.MINIMUM_ROUNDS} rounds")
    return options


def _usual_rounds(options: argparse.Namespace) -> int:
    if options.base:
        return comparison.MINIMUM_ROUNDS if options.quick else 9
    if options.quick or options.profile:
        return 1
    return DEFAULT_ROUNDS if options.scale else 3
