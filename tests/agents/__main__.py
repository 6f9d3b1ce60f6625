"""`make agents`: run every program through every case, and print a table of the results.

ARGS="--only codex --case tool --show" selects one program and one case and shows its output;
ARGS=--write puts the table into docs/clients/README.md.
"""

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.agents import network, table
from tests.agents.cases import CASES, Case
from tests.agents.catalogue import PROGRAMS
from tests.agents.deviations import explanation
from tests.agents.programs import Program
from tests.agents.running import Place
from tests.agents.table import Result
from tests.agents.trial import Failure
from tests.agents.world import World, world


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make agents", description=__doc__)
    names = [program.name for program in PROGRAMS]
    parser.add_argument("--only", nargs="*", choices=names, help="programs")
    parser.add_argument("--case", nargs="*", choices=[case.name for case in CASES], help="cases")
    parser.add_argument("--quick", action="store_true", help="only what `make check` runs")
    parser.add_argument("--report", type=Path, help="write the results as JUnit XML")
    parser.add_argument("--show", action="store_true", help="show outputs and refused requests")
    parser.add_argument("--write", action="store_true", help="write the lines of these programs")
    return parser.parse_args(arguments)


def run(program: Program, case: Case, everything: World) -> Result:
    """Run one case of one program."""
    started = time.monotonic()
    explained = explanation(program.name, case.name)
    with Place() as place:
        try:
            note, passed = case.run(program, everything, place), True
        except Failure as problem:
            note, passed = str(problem), False
        except Exception:
            note, passed = traceback.format_exc(), False
        return Result(program.name, case.name, passed, note, explained, time.monotonic() - started)


def show(everything: World) -> None:
    """Print the programs' outputs and the requests of the last case, refused ones with bodies."""
    shown: set[bytes] = set()
    for backend in everything.used():
        for found in backend.recorder.exchanges:
            print(f"    {found}")
            if found.status >= 400 and found.body not in shown:
                shown.add(found.body)
                print(f"      asked: {found.body[:1500]!r}\n      told: {found.answer[:1000]!r}")
    for output in everything.outputs:
        print(f"    | exit {output.code} after {output.seconds:.1f} s")
        for line in output.output.splitlines()[-60:]:
            print(f"    | {line[:400]}")


def main(arguments: Sequence[str]) -> int:
    """Run the selected cases; return 1 if any result is not as expected."""
    options = parse_arguments(arguments)
    programs = [
        program
        for program in PROGRAMS
        if (not options.only or program.name in options.only)
        and (not options.quick or program.quick)
    ]
    cases = [
        case
        for case in CASES
        if (not options.case or case.name in options.case) and (not options.quick or case.quick)
    ]
    results: list[Result] = []
    with world() as everything:
        for program in programs:
            for case in cases:
                everything.outputs.clear()
                result = run(program, case, everything)
                results.append(result)
                print(result, flush=True)
                if options.show or not result.is_expected:
                    show(everything)
    print()
    print("\n".join(table.rows(results)))
    if options.report:
        options.report.write_bytes(table.junit(results))
    # A line has all cases.
    if options.write and len(cases) == len(CASES):
        table.write(results)
    return 0 if all(result.is_expected for result in results) else 1


if __name__ == "__main__":
    # End the programs and servers before us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    network.enter("tests.agents", sys.argv[1:])
    sys.exit(main(sys.argv[1:]))
