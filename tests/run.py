"""`make test` and `make check`: run the suite in parallel, then the tests that must run alone.

Tests of a file share servers, so a file stays in one worker. Slow files are started first
(conftest.py), so that none delays the end. Tests that measure, or kill under load, run alone and
last. Further arguments are passed to pytest.
"""

import os
import subprocess
import sys
from pathlib import Path

# Whether tests that generate their cases run all of them instead of a sample.
EXHAUSTIVE = "PROMPTLY_EXHAUSTIVE_TESTS" in os.environ

NEED_TOOLS = (
    "real_llama",
    "browser",
    "nginx",
    "node",
    "llama_index",
    "agents",
    "network",
    "systemd",
    "promtool",
)
# More workers than cores: tests wait as much as they compute, and each worker has its own servers.
WORKERS = min(8, max(2, (os.cpu_count() or 2) * 3 // 2))
# pytest's exit codes.
INTERRUPTED = 2
NO_TESTS = 5

LEFT_OUT = """
Left out: tests that need Chromium, nginx, systemd, promtool, Node, LlamaIndex, installed agents, a
built llama-server or the network.
`make check` runs them; CONTRIBUTING.md says how to install what they need.
"""
EXHAUSTIVE_LEFT_OUT = """
Left out: exhaustive variants, of which a sample ran. `make check-all` runs them all.
"""

TESTS = Path(__file__).parent


def files_with(mark: str) -> list[str]:
    """Return the test files that contain a mark; collecting all the others takes half a minute."""
    return [str(path) for path in TESTS.rglob("test_*.py") if f"mark.{mark}" in path.read_text()]


def main(arguments: list[str]) -> int:
    """Run all phases, even if one fails, and return the first failure's exit code.

    An interrupt ends the run at once.
    """
    options = {"--all", "--exhaustive"} & set(arguments)
    given = [argument for argument in arguments if argument not in options]
    everything = "--exhaustive" in options
    left_out = [] if options else list(NEED_TOOLS)
    if not everything:
        left_out.append("exhaustive")
    environment = os.environ | ({"PROMPTLY_EXHAUSTIVE_TESTS": "1"} if everything else {})
    codes: list[int] = []
    whole = not any(Path(argument.partition("::")[0]).exists() for argument in given)
    phases: tuple[tuple[str, list[str], list[str]], ...] = (
        (
            "not alone",
            ["-n", str(WORKERS), "--dist=loadfile", "--no-loadscope-reorder", "--durations=15"],
            [],
        ),
        ("alone", ["--durations=10"], files_with("alone") if whole else []),
    )
    for marks, options_of_phase, files in phases:
        selected = " and ".join([marks, *(f"not {mark}" for mark in left_out)])
        command = [sys.executable, "-m", "pytest", *options_of_phase, "-m", selected]
        command += [*given, *files]
        codes.append(subprocess.run(command, env=environment, check=False).returncode)
        if codes[-1] == INTERRUPTED:
            return INTERRUPTED
    if not options:
        print(LEFT_OUT, end="")
    elif not everything:
        print(EXHAUSTIVE_LEFT_OUT, end="")
    failures = [code for code in codes if code not in {0, NO_TESTS}]
    if failures:
        return failures[0]
    return NO_TESTS if set(codes) == {NO_TESTS} else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
