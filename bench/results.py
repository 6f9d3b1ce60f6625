"""Where results go, and whether they can be trusted."""

import json
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from bench.measure import Run
from bench.system import ROOT, SERVICE_CPU, TARGET_CPU, System
from bench.targets import Target

RESULTS = ROOT / "bench" / "results"
_QUIET_CORES = 0.1


def say(text: str) -> None:
    """Report progress."""
    sys.stderr.write(text + "\n")


def print_run(target: Target, run: Run) -> None:
    """Print the load generator's measurements and the CPU time of a run."""
    seen = {name: value for name, value in run.seen.items() if name != "event" and value}
    spent = f"{run.spent.target:.2f} s, PostgreSQL {run.spent.postgres:.2f} s"
    say(f"    {target.name:8}{spent}, others {run.foreign_cores():.2f} cores; {json.dumps(seen)}")


def print_errors(target: Target, run: Run) -> None:
    """Print what was wrong with the answers of a run."""
    for message, times in run.errors.items():
        say(f"    {target.name}: {times} x {message}")


def facts(system: System, rounds: int, foreign_cores: float) -> dict[str, object]:
    """Return the circumstances of the measurement."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, Linux {platform.release()}",
        "cpus": {"measured": TARGET_CPU, "everything else": SERVICE_CPU},
        "postgres": system.postgres_settings(),
        "rounds": rounds,
        "foreign_cores": round(foreign_cores, 3),
    }


def save(result: Mapping[str, object], copy: Path | None) -> Path:
    """Write a result into bench/results/, and to ``copy``; return the path of the first."""
    RESULTS.mkdir(exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = RESULTS / f"{stamp}.json"
    for place in filter(None, (path, copy)):
        place.write_text(json.dumps(result, indent=1) + "\n")
    return path.relative_to(ROOT)


def report_end(result: Mapping[str, object], path: Path) -> None:
    """Warn of a disturbed measurement; print its length and where the results are."""
    if float(str(result["foreign_cores"])) > _QUIET_CORES:
        say(
            f"\nDISTURBED: other programs kept {result['foreign_cores']} cores busy meanwhile."
            " Repeat it on a quiet machine."
        )
    say(f"\n{result['seconds']} s, {result['rounds']} rounds, see {path}")
