"""The plan of faults, decided by the seed, each kind once per round; and the packages it needs."""

import subprocess
import sys
from itertools import islice

from prove.faults import plan
from tests.support.servers import PROJECT

KINDS = ("a", "b", "c", "d")


def test_the_seed_decides_the_plan() -> None:
    first, again, other = (list(islice(plan(KINDS, seed), 40)) for seed in (1, 1, 2))
    assert first == again != other


def test_every_round_has_every_kind() -> None:
    kinds = [kind for kind, _, _ in islice(plan(KINDS, 7), 40)]
    rounds = [kinds[start : start + 4] for start in range(0, 40, 4)]
    assert {frozenset(each) for each in rounds} == {frozenset(KINDS)}
    assert len({tuple(each) for each in rounds}) > 1


def test_it_needs_no_development_package() -> None:
    statement = "import sys, prove.__main__; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", statement], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    loaded = set(done.stdout.split())
    assert {"psutil", "psycopg2", "sandbox"} <= loaded
    assert loaded & {"pytest", "_pytest", "hypothesis", "openai", "anthropic"} == set()
