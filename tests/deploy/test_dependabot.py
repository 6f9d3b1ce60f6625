"""Dependabot updates files that exist."""

from typing import Any

import pytest
import yaml

from tests.deploy.workflows import PROJECT

FILES = {
    "github-actions": ".github/workflows/test.yml",
    "uv": "uv.lock",
    "docker": "Dockerfile",
    "docker-compose": "docker-compose.yml",
    "npm": "package-lock.json",
}
UPDATES: list[dict[str, Any]] = yaml.safe_load(
    (PROJECT / ".github" / "dependabot.yml").read_text()
)["updates"]


@pytest.mark.parametrize("update", UPDATES, ids=lambda update: update["package-ecosystem"])
def test_updates_find_their_file(update: dict[str, Any]) -> None:
    file = PROJECT / update["directory"].strip("/") / FILES[update["package-ecosystem"]]
    text = file.read_text()
    for ignored in update.get("ignore", ()):
        assert ignored["dependency-name"] in text


def test_everything_that_is_pinned_is_updated() -> None:
    assert {update["package-ecosystem"] for update in UPDATES} == FILES.keys()
