"""Options, sizes, slopes and tables of ``bench --scale``, and the accounts that its load uses."""

import dataclasses

import pytest
from sqlalchemy import text

from bench.cases import Row, Section, foreign_cores, table
from bench.client import Client
from bench.measure import Clocks, Run
from bench.options import parse
from bench.plans import paced, plain
from bench.scale.fill import MOST_BUSY, busy_accounts, fill
from bench.scale.flood import refused
from bench.scale.growth import SIZES, Size, chosen, needed_bytes, net_micros
from bench.scale.scenarios import SCENARIOS
from bench.scale.slope import describe, per_tenfold
from bench.seed import settings_for
from promptly.app import create_app
from promptly.extensions import db
from promptly.services.accounts import key_format
from promptly.services.ledger import verification
from tests.conftest import dispose
from tests.support.databases import Databases


def run(requests: int, target_seconds: float, errors: dict[str, int] | None = None) -> Run:
    seen = {"requests": requests, "seconds": 1.0, "errors": errors or {}}
    return Run("gateway", seen, Clocks(target_seconds, 0.1, 0.0, 1.0, 1.5, 1.0))


def test_a_slope_is_per_tenfold() -> None:
    assert per_tenfold([10, 1000, 100_000], [100.0, 120.0, 140.0]) == pytest.approx(10.0)
    assert per_tenfold([10, 100], [70.0, 70.0]) == 0.0
    with pytest.raises(ValueError, match="two sizes"):
        per_tenfold([10, 10], [1.0, 2.0])


def test_a_slope_has_the_interval_of_its_rounds() -> None:
    # In each round the machine is slower by another factor, and a tenfold size costs 1, 2, 3, ...
    slower = [[100.0] * 6, [100.0 + rise for rise in range(1, 7)]]
    assert describe([10, 100], slower) == "+3.50 (+1 to +6) per tenfold, +3.5 %"
    falling = [[200.0, 200.0], [190.0, 198.0]]
    assert describe([10, 100], falling) == "-6 (-10 to -2) per tenfold, -3.0 %"


def test_sizes_grow_tenfold_up_to_the_largest() -> None:
    assert chosen(None, quick=False) == SIZES
    assert (SIZES[0], SIZES[-1]) == (Size(10, 0), Size(1_000_000, 10_000_000))
    assert [size.accounts for size in chosen(None, quick=True)] == [10, 1_000, 10_000]
    assert [size.accounts for size in chosen(100_000, quick=True)] == [10, 1_000, 10_000, 100_000]
    assert needed_bytes([Size(10, 0)]) < 1e6 < 1e10 < needed_bytes(SIZES) < 2e10


def test_idle_time_is_not_counted() -> None:
    idle = Clocks(0.0, 0.4, 0.0, 0.0, 0.0, 8.0)
    busy = Run("gateway", {"requests": 100}, Clocks(0.2, 0.2, 0.0, 0.0, 0.0, 2.0))
    assert net_micros(busy, idle, "target") == pytest.approx(2000)
    assert net_micros(busy, idle, "postgres") == pytest.approx(1000)


def test_busy_accounts_are_spread_over_all() -> None:
    assert busy_accounts(10) == list(range(1, 11))
    spread = busy_accounts(1_000_000)
    assert (len(spread), spread[0], spread[1], spread[-1]) == (MOST_BUSY, 1, 1001, 999_001)


def test_busy_accounts_have_keys_and_tokens(databases: Databases, template_database: str) -> None:
    with databases.temporary(template_database) as url:
        settings = settings_for(url)
        app = create_app(settings)
        with app.app_context():
            keys = fill(10, 0, settings)
            hashes = [key_format.digest(key, settings.key_pepper.reveal()) for key in keys]
            count = "SELECT count(*) FROM api_keys k JOIN balances b ON b.user_id = k.user_id"
            able = f"{count} WHERE k.key_hash = ANY(:hashes) AND b.paid_tokens >= 1000000000"
            assert db.session.scalar(text(able), {"hashes": hashes}) == 10
            assert verification.verify() == []
        dispose(app)


def test_requests_take_the_keys_in_turn() -> None:
    plan = dataclasses.replace(plain(1, 1.0, bare_proxy=False), keys=["a", "b"], headers=["X-A: 1"])
    first, second = Client(plan)._requests
    assert b"Authorization: Bearer a\r\nX-A: 1\r\n" in first
    assert b"Authorization: Bearer b\r\n" in second
    unknown = Client(refused(plan))._requests
    assert len(set(unknown)) == len(unknown) > 1000


def test_paced_streams_outlast_their_window() -> None:
    plan = paced(2000, 6.0, pace=5, bare_proxy=False)
    assert plan.ramp_seconds == 16.0
    assert plan.tokens / 5 > plan.ramp_seconds + plan.seconds + 1


def test_a_table_has_a_column_for_each_case() -> None:
    runs = [[run(1000, 1.0), run(1000, 3.0)], [run(500, 1.0, {"no answer": 2})]]
    section = Section("workers", "workers", ["one", "two"], runs=runs)
    cost = section.add("CPU", "us", lambda run: run.micros("target", "requests"))
    cost.remark = "flat"
    section.add("rate", "1/s", lambda run: run.seen["requests"], columns=[1])
    section.rows.append(Row("memory", "KiB", [[3.0], []]))
    lines = [" ".join(line.split()) for line in table(section).splitlines()]
    assert lines[0] == "workers"
    assert lines[1] == "one two"
    assert lines[3:] == [
        "CPU (us) 2,000 2,000 flat",
        "rate (1/s) 500",
        "memory (KiB) 3",
        "2 WRONG ANSWERS",
    ]
    assert section.as_json()["wrong_answers"] == 2
    assert foreign_cores([section]) == 0.5


def test_options_of_scale() -> None:
    options = parse(["--scale"])
    assert (options.names, options.rounds, options.largest) == (list(SCENARIOS), 7, None)
    quick = parse(["--scale", "--quick", "--only", "growth", "--largest", "100000"])
    assert (quick.names, quick.rounds, quick.largest) == (["growth"], 1, 100_000)
    assert parse(["--only", "plain"]).rounds == 3
    assert parse(["--base", "HEAD"]).rounds == 9
    assert parse(["--base", "HEAD", "--quick"]).rounds == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--only growth", "no such scenario"),
        ("--scale --only plain", "no such scenario"),
        ("--scale --base HEAD", "current tree"),
        ("--largest 10", "belongs to --scale"),
        ("--base HEAD --rounds 3", "at least 7"),
    ],
)
def test_senseless_options_are_refused(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(arguments.split())
    assert message in capsys.readouterr().err
