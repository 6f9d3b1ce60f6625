"""Runs the scenarios of ``python -m bench --scale`` and prints their tables."""

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import results
from bench.cases import Section, Watch, foreign_cores, table
from bench.scale.lab import Lab
from bench.scale.scenarios import SCENARIOS
from bench.system import System

DEFAULT_ROUNDS = 7


def run(
    names: Sequence[str],
    *,
    rounds: int,
    quick: bool = False,
    largest: int | None = None,
    copy: Path | None = None,
    verbose: bool = False,
) -> bool:
    """Run scenarios; return whether all answers were right.

    ``largest`` is the number of accounts of the largest database, None for the usual one. Raises
    SandboxError if a server does not start or the disk is too small.
    """
    started = time.monotonic()
    watch: Watch = results.print_run if verbose else results.print_errors
    sections: list[Section] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, System(Path(folder)) as system:
        for name in names:
            results.say(f"{name} ...")
            with ExitStack() as stack:
                lab = Lab(system, stack, rounds, quick, largest, watch, results.say)
                sections.append(SCENARIOS[name](lab))
            print(table(sections[-1]), flush=True)
        result = results.facts(system, rounds, foreign_cores(sections))
    result["seconds"] = round(time.monotonic() - started, 1)
    result["sections"] = [section.as_json() for section in sections]
    results.report_end(result, results.save(result, copy))
    return not any(section.wrong for section in sections)
