"""The files of deploy/monitoring, and the metrics and labels that their queries use."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.servers import PROJECT

FOLDER = PROJECT / "deploy" / "monitoring"
RULES = sorted((FOLDER / "rules").glob("*.yml"))
RULE_TESTS = sorted((FOLDER / "tests").glob("*.yml"))

_SELECTOR = re.compile(r"\b((?:promptly|gen_ai)_\w+)\b(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!=|!~|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


@dataclass(frozen=True)
class Selector:
    """A metric in a query, with (label, operator, value) for each condition."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]


def selectors(query: str) -> Iterator[Selector]:
    """Yield each use of one of promptly's metrics."""
    for metric, conditions in _SELECTOR.findall(_GROUPING.sub(" ", query)):
        yield Selector(metric, tuple(_MATCHER.findall(conditions)))


def grouping_labels(query: str) -> set[str]:
    """Return the labels that a query groups or matches by."""
    return {label for group in _GROUPING.findall(query) for label in re.findall(r"\w+", group)}


@cache
def alerts() -> dict[str, dict[str, Any]]:
    """Return the alerts of all rule files by name."""
    found = [rule for path in RULES for rule in _rules(path)]
    assert len({rule["alert"] for rule in found}) == len(found)
    return {rule["alert"]: rule for rule in found}


def _rules(path: Path) -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(path.read_text())["groups"]:
        yield from group["rules"]


@cache
def rule_tests() -> dict[str, dict[str, Any]]:
    """Return promtool's tests by their names, which are those of alerts."""
    found = [test for path in RULE_TESTS for test in yaml.safe_load(path.read_text())["tests"]]
    assert len({test["name"] for test in found}) == len(found)
    return {test["name"]: test for test in found}


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
    return loaded


def panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels, without the rows above them."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> dict[str, list[str]]:
    """Return all queries, by the alert, panel or variable that makes them."""
    found = {name: [alert["expr"]] for name, alert in alerts().items()}
    for panel in panels():
        found[f"panel {panel['id']}"] = [target["expr"] for target in panel["targets"]]
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            found[f"variable {variable['name']}"] = [variable["definition"]]
    return found
