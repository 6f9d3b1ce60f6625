"""The bench of agents runs, and finds their caches."""

from pathlib import Path

import pytest

from bench.agents import measure, parse
from sandbox.checkout import Code

pytestmark = [pytest.mark.alone, pytest.mark.exhaustive]


def test_agents_find_their_caches(tmp_path: Path) -> None:
    arguments = "--agents 3 --servers 1 --slots 2 --turns 6 --new-tokens 3000 --speed 5"
    options = parse([*arguments.split(), "--newcomers", "2"])
    figures = measure(tmp_path / "stack", options, Code())
    assert figures.cached_share >= 0.7
    assert figures.unnamed == 0
    assert figures.largest_difference <= 2.0
