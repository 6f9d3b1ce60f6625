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
from prove.table import Row, agree, shown
from sandbox.process import SandboxError
from sandbox.progress import step

DEFAULT_MINUTES = 4.0
INTERRUPTED = 130


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
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores one
            signal.signal(number, lambda signum, _: sys.exit(128 + signum))


def main(arguments: list[str]) -> int:
    """Return 0 if every row agrees, 1 if one differs or the run failed, 130 after Ctrl-C."""
    options = _options(arguments)
    _exit_on_signals()
    try:
        with tempfile.TemporaryDirectory(prefix="promptly-prove-") as directory:
            rows = _prove(options, Path(directory) / "run")
    except SandboxError as problem:
        print(f"prove: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("prove: interrupted; everything is stopped", file=sys.stderr)
        return INTERRUPTED
    print(shown(rows))
    if agree(rows):
        print("\nEverything agrees.")
        return 0
    print(f"\nThere are differences. Repeat the faults: --seed {options.seed}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
