"""One arena for all attacks of this folder: each must leave it as it was."""

from collections.abc import Iterator

import pytest

from tests.abuse.arena import VARIABLES, Arena
from tests.plugins.stacks import MakeStack


@pytest.fixture(scope="package")
def arena(make_stack: MakeStack) -> Iterator[Arena]:
    with make_stack("arena", **VARIABLES) as stack:
        llama = stack.simulated_llama(slots=64)
        yield Arena(stack, llama, stack.gateway(llama.url, workers=2))
