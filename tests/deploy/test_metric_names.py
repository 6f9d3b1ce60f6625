"""Alerts and dashboard name metrics, labels and values that promptly exports."""

import re
from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from flask import Flask
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families

from promptly.runtime import request_metrics, task_metrics
from promptly.runtime.shared_metrics import Families
from promptly.services import money_health
from tests.deploy.monitoring import alerts, grouping_labels, panels, queries, selectors

SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
# Prometheus and its configuration add these.
SCRAPE_LABELS = {"job", "instance", "pod", "environment"}
QUERIES = queries()
TASK = "promptly.tasks.mail.sweep"


@dataclass
class Exported:
    """Names of time series, and for each the values that its labels have."""

    values: dict[str, dict[str, set[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )

    def add(self, exposition: str) -> None:
        for family in text_string_to_metric_families(exposition):
            for suffix in SUFFIXES[family.type]:
                self.values[family.name + suffix].update()
            for sample in family.samples:
                for label, value in sample.labels.items():
                    self.values[sample.name][label].add(value)

    def labels(self) -> set[str]:
        return {label for found in self.values.values() for label in found}


@pytest.fixture(scope="module")
def exported(worker_app: Flask) -> Exported:
    """A scrape of a gateway that has served each kind of request, and of a Celery worker."""
    for operation in request_metrics.operations.values():
        for error_type in (request_metrics.NO_ERROR, *request_metrics.ERROR_TYPES):
            operation.record(
                error_type=error_type,
                seconds=1,
                first_token_seconds=0.5,
                token_seconds=0.1,
                tokens=(3, 2, 1),
            )
    for waits in request_metrics.queue_waits.values():
        waits.observe(1)
    answer = worker_app.test_client().get("/metrics")
    assert answer.status_code == 200
    found = Exported()
    found.add(answer.text)
    # Absent until the ledger's first verification.
    for name in money_health.TEXTS:
        found.values[name].update()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_metrics, "families", Families())
        measured = task_metrics.TaskMetrics([TASK])
        measured.begin("1")
        measured.end(TASK, "1", "SUCCESS")
        encode, _ = choose_encoder("")
        found.add(encode(task_metrics.families).decode())
    return found


@pytest.mark.parametrize("user", QUERIES)
def test_queries_use_what_is_exported(exported: Exported, user: str) -> None:
    for query in QUERIES[user]:
        for selector in selectors(query):
            assert selector.metric in exported.values, query
            labels = exported.values[selector.metric]
            for label, operator, value in selector.matchers:
                if label not in SCRAPE_LABELS:
                    found = labels[label]
                    assert found, f"{selector.metric} has no label {label}"
                    assert operator != "=" or value in found, value
                    assert operator != "=~" or missing(value, found) == [], query
        assert grouping_labels(query) <= exported.labels() | SCRAPE_LABELS, query


def missing(alternatives: str, values: set[str]) -> list[str]:
    """Return the alternatives of a pattern that match no value."""
    return [
        pattern
        for pattern in alternatives.split("|")
        if not any(re.fullmatch(pattern, value) for value in values)
    ]


def test_legends_use_labels_that_queries_leave() -> None:
    for panel in panels():
        for target in panel["targets"]:
            used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert used - {"instance"} <= grouping_labels(target["expr"]), panel["title"]


def test_the_most_important_metrics_are_watched(exported: Exported) -> None:
    """Each gauge and counter of a gateway appears in an alert or on the dashboard."""
    used = {found.metric for users in QUERIES.values() for q in users for found in selectors(q)}
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in exported.values}
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in used}
    assert families - shown == set()


def test_alerts_about_shared_figures_do_not_multiply() -> None:
    """Every gateway reports the same of PostgreSQL and Redis: one alert, not one for each."""
    shared = {*money_health.TEXTS, *money_health.STATES, "promptly_queue_length"}
    for name, alert in alerts().items():
        if shared & {found.metric for found in selectors(alert["expr"])}:
            assert "instance" in grouping_labels(alert["expr"]), name
            assert "sum" not in alert["expr"], name
