"""Query plans of every page on a realistic data set: none scans a usage_events partition in full.

Timings mean nothing on a busy machine; `python -m bench.pages` measures those.
"""

import re
from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import text

from bench.pages import Page, measure, pages, report
from bench.seed import seed, settings_for
from bench.statements import SMALL_BYTES, Statement, explain, scanned_whole, watched
from promptly.app import create_app
from promptly.extensions import db
from tests.conftest import dispose
from tests.support.databases import Databases
from tests.support.servers import WorkerRedis


@pytest.fixture(scope="module")
def seeded(
    databases: Databases, template_database: str, redis_server: WorkerRedis
) -> Iterator[Flask]:
    with databases.temporary(template_database) as url:
        app = create_app(settings_for(url, redis_server.url))
        with app.app_context():
            seed(3_000, 100_000, say=lambda _: None)
        yield app
        dispose(app)


@pytest.mark.usefixtures("redis_url")
def test_no_page_reads_all_usage_events(seeded: Flask) -> None:
    with seeded.app_context():
        results = measure(seeded, pages(), rounds=1)
        assert {result.page.name: result.scans for result in results if result.scans} == {}
        # The number of statements per page is bounded, however many rows it shows.
        assert max(len(result.statements) for result in results) < 25
        lines = report(results)
    assert len(lines) >= len(results) + 1
    assert re.search(r"^overview +[\d.]+ +[\d.]+ +\d+ +[\d.]+   \S", "\n".join(lines), re.MULTILINE)


def test_a_scan_of_whole_partitions_is_found(seeded: Flask) -> None:
    with seeded.app_context():
        plan = explain(db.engine, Statement("SELECT sum(duration_ms) FROM usage_events", {}, 0.0))
        scans = scanned_whole(db.engine, plan)
        large = db.session.scalars(
            text(
                "SELECT relid::regclass::text FROM pg_partition_tree('usage_events')"
                " WHERE isleaf AND pg_relation_size(relid) >= :small"
            ),
            {"small": SMALL_BYTES},
        ).all()
        # Of the last three months, one at most has just begun.
        assert len(large) >= 2
        assert scans == sorted(large)
        assert explain(db.engine, Statement("SET work_mem = '4MB'", {}, 0.0)) == {}


def test_statements_are_watched_only_inside(seeded: Flask) -> None:
    with seeded.app_context():
        with watched(db.engine) as seen:
            db.session.execute(text("SELECT 1 AS one"))
        db.session.execute(text("SELECT 2 AS two"))
        assert [statement.head for statement in seen] == ["SELECT 1 AS one"]


def test_a_page_that_fails_stops_the_bench(seeded: Flask) -> None:
    with seeded.app_context(), pytest.raises(RuntimeError, match="404"):
        measure(seeded, [Page("none", "/admin/purchases/P-1")], rounds=1)
