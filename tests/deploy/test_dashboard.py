"""The Grafana dashboard: valid, complete, and laid out without overlaps or gaps."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from tests.deploy.monitoring import FOLDER, dashboard, panels

SCHEMA = json.loads((Path(__file__).parent / "dashboard.schema.json").read_text())
DASHBOARD = dashboard()
COLUMNS = 24


def validate(board: dict[str, Any]) -> None:
    Draft202012Validator(SCHEMA).validate(board)


def test_grafana_accepts_the_dashboard() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    validate(DASHBOARD)


def test_mistakes_are_found() -> None:
    for key, value in (("type", "graph"), ("description", ""), ("datasource", {"uid": "x"})):
        board = dashboard()
        board["panels"][1][key] = value
        with pytest.raises(ValidationError):
            validate(board)


def test_ids_and_titles_are_unique() -> None:
    everything = DASHBOARD["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    rows = [panel["title"] for panel in everything if panel["type"] == "row"]
    assert len(set(rows)) == len(rows)


def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
    place = panel["gridPos"]
    assert place["x"] + place["w"] <= COLUMNS, panel["title"]
    return {
        (x, y)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    }


def test_panels_do_not_overlap_and_fill_their_rows() -> None:
    for one, other in combinations(DASHBOARD["panels"], 2):
        assert not cells(one) & cells(other), (one["title"], other["title"])
    covered = set().union(*(cells(panel) for panel in DASHBOARD["panels"]))
    height = 1 + max(y for _, y in covered)
    assert len(covered) == COLUMNS * height


def test_each_target_of_a_panel_has_a_letter_of_its_own() -> None:
    for panel in panels():
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters), panel["title"]


def test_every_variable_is_used_and_every_used_one_exists() -> None:
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    text = (FOLDER / "dashboard.json").read_text()
    # Grafana's own begin with two underscores.
    used = set(re.findall(r"\$\{?([a-z]\w*)", text))
    assert used == names
