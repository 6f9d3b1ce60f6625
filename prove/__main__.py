"""``python -m prove``: start everything, break it under load, print the table."""

import argparse
import random
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from prove import comparison
from prove.run import Run
from prove.scene import prepared
from prove.table import Row, agree, differing, shown
from sandbox.process import SandboxError
from sandbox.progress import step

DEFAULT_MINUTES = 3.0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="prove", description="Break everything under load, then compare counts and charges."
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help=f"of load (default {DEFAULT_MINUTES:g})")
    length.add_argument("--seconds", type=float, help="of load; each fault is done at least once")
    parser.add_argument("--seed", type=int, help="repeat the faults of another run")
    options = parser.parse_args(arguments)
    if options.seconds is None:
        minutes = DEFAULT_MINUTES if options.minutes is None else options.minutes
        options.seconds = 60 * minutes
    if not 0 < options.seconds <= 3600:
        parser.error("the load lasts up to an hour")
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1_000_000)
    return options


def _prove(options: argparse.Namespace, directory: Path) -> list[Row]:
    print(
        f"{options.seconds:g} s of load, seed {options.seed}; the same seed repeats the faults",
        flush=True,
    )
    with ExitStack() as stack:
        with step("starting the servers"):
            scene = stack.enter_context(prepared(directory))
        run = Run(scene, options.seconds, options.seed)
        found = run.run()
        print(f"\nFaults: {run.faults_done()}\n{run.traffic}\n", flush=True)
        return comparison.compare(found, scene.packs)


def _exit_on_signals() -> None:
    """Let a signal end the run by an exception, so that everything it started is stopped."""
    signals = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    # nohup, for example, ignores one.
    heeded = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]

    def end(number: int, _: object) -> None:
        # A second Ctrl-C must not interrupt the cleanup.
        for each in heeded:
            signal.signal(each, signal.SIG_IGN)
        print("prove: interrupted; stopping everything ...", file=sys.stderr)
        sys.exit(128 + number)

    for number in heeded:
        signal.signal(number, end)


def main(arguments: list[str]) -> int:
    """Return 0 if every row agrees, 1 if one differs or the run failed; exit with 130 on Ctrl-C."""
    options = _options(arguments)
    _exit_on_signals()
    try:
        with tempfile.TemporaryDirectory(prefix="promptly-prove-") as directory:
            rows = _prove(options, Path(directory) / "run")
    except SandboxError as problem:
        print(f"prove: {problem}", file=sys.stderr)
        return 1
    print(shown(rows))
    if agree(rows):
        print("\nEverything agrees.")
        return 0
    print("\nThe differences:", *differing(rows), sep="\n")
    print(f"\nTo repeat the faults: --seed {options.seed}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
