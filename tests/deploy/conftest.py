"""Fixtures for tests of deploys."""

from pathlib import Path

import pytest

from tests.deploy.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A repository on GitHub, its server and a runner."""
    return World(tmp_path)
