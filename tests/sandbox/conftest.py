"""Fixtures shared by the tests of both simulated payment providers."""

from collections.abc import Iterator

import pytest

from tests.sandbox.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A webhook endpoint that answers 200."""
    made = Receiver()
    yield made
    made.stop()
