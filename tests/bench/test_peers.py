"""Options, requests, tables and pinned versions of ``bench.peers``; nothing is installed."""

import json
import re
from pathlib import Path

import pytest

from bench.cases import Row
from bench.client import Client
from bench.measure import Clocks, Run
from bench.peers.__main__ import parse
from bench.peers.scenarios import MOST_LATE_MS, carries, multiples, same_request
from bench.peers.servers import SERVERS
from bench.plans import paced


def run(p99_ms: float, errors: dict[str, int]) -> Run:
    seen = {"errors": errors, "lateness_ms": {"p99": p99_ms}}
    return Run("peer", seen, Clocks(1.0, 0.0, 0.0, 1.0, 1.0, 1.0))


def test_options() -> None:
    options = parse([])
    assert (options.names, options.rounds) == (list(SERVERS), 5)
    some = parse(["--only", "litellm,nginx", "--quick"])
    assert (some.names, some.rounds) == (["nginx", "litellm"], 1)


def test_an_unknown_server_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--only", "envoy"])
    assert "no such server: envoy" in capsys.readouterr().err


def test_all_servers_get_the_request_of_a_customer() -> None:
    plan = same_request(paced(10, 1.0, bare_proxy=False))
    (request,) = Client(plan)._requests
    assert b'"stream": true' in request
    assert b"timings_per_token" not in request
    assert plan.bare_proxy, "answers may hold the timings that promptly removes"


def test_a_server_carries_streams_that_are_right_and_in_time() -> None:
    assert carries(run(MOST_LATE_MS, {}))
    assert not carries(run(MOST_LATE_MS + 1, {}))
    assert not carries(run(1.0, {"stream did not end": 1}))


def test_multiples_are_taken_within_each_round() -> None:
    row = multiples(Row("CPU", "us", [[10.0, 20.0], [30.0, 40.0]]))
    assert row.samples == [[1.0, 1.0], [3.0, 2.0]]


def test_versions_are_pinned(project: Path) -> None:
    folder = project / "bench" / "peers"
    lines = (folder / "litellm.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+!-]+", line)] == []
    assert any(line.startswith("litellm==") for line in lines)
    package = json.loads((folder / "portkey" / "package.json").read_text())
    lock = json.loads((folder / "portkey" / "package-lock.json").read_text())["packages"]
    for name, version in (package["dependencies"] | package["overrides"]).items():
        assert lock[f"node_modules/{name}"]["version"] == version
    assert all("integrity" in entry for name, entry in lock.items() if name)
