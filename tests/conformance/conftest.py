"""Popular clients, complete and unmodified, on a running gateway.

`backend` is one gateway in front of the simulator and one in front of a real llama-server with a
tiny model; both are shared with other packages (tests/plugins/stacks.py). Each test has its own
account, whose charges are compared with upstream's counts at the end. Each folder holds the tests
of one client.
"""

from collections.abc import Iterator

import pytest

from sandbox.llama import SimulatedLlama
from sandbox.real_llama import RealLlama
from tests.conformance.backends import Backend, RealUpstream, SimulatedUpstream
from tests.support.books import Account
from tests.support.servers import Gateway
from tests.support.stack import Stack


@pytest.fixture(scope="session")
def simulator_backend(
    shared_stack: Stack, simulated_gateway: Gateway, simulated_llama: SimulatedLlama
) -> Backend:
    upstream = SimulatedUpstream(simulated_llama)
    return Backend("simulator", simulated_gateway, shared_stack.books, upstream)


@pytest.fixture(scope="session")
def real_backend(
    shared_stack: Stack, real_gateway: Gateway, real_llama: RealLlama, real_embedder: RealLlama
) -> Backend:
    upstream = RealUpstream(real_llama, real_embedder)
    return Backend("real", real_gateway, shared_stack.books, upstream)


@pytest.fixture(scope="session")
def simulator_tools_backend(
    shared_stack: Stack, simulated_tools_gateway: Gateway, simulated_llama: SimulatedLlama
) -> Backend:
    upstream = SimulatedUpstream(simulated_llama)
    return Backend("simulator", simulated_tools_gateway, shared_stack.books, upstream)


@pytest.fixture(scope="session")
def real_tools_backend(
    shared_stack: Stack, real_tools_gateway: Gateway, real_calling_llama: RealLlama
) -> Backend:
    upstream = RealUpstream(real_calling_llama)
    return Backend("real", real_tools_gateway, shared_stack.books, upstream)


# Session fixtures requested by name, instead of a session-scoped parameter: each backend starts
# only once, whatever the order of the tests.
@pytest.fixture(params=["simulator", pytest.param("real", marks=pytest.mark.real_llama)])
def backend(request: pytest.FixtureRequest) -> Backend:
    """A gateway and its upstream."""
    found: Backend = request.getfixturevalue(f"{request.param}_backend")
    return found


@pytest.fixture(params=["simulator", pytest.param("real", marks=pytest.mark.real_llama)])
def tools_backend(request: pytest.FixtureRequest) -> Backend:
    """A gateway with RESPONSES_PROFILE=tools and its upstream.

    Tests use it in place of `backend` by a fixture of that name in their module.
    """
    found: Backend = request.getfixturevalue(f"{request.param}_tools_backend")
    return found


@pytest.fixture
def account(backend: Backend) -> Iterator[Account]:
    """An account with ample funds; teardown compares its charges with upstream's counts."""
    backend.upstream.begin()
    found = backend.account()
    yield found
    backend.reckon(found)


@pytest.fixture
def simulator(backend: Backend, account: Account) -> SimulatedLlama:
    """The simulator, for injecting faults; only for tests marked `only_simulator`."""
    assert isinstance(backend.upstream, SimulatedUpstream)
    return backend.upstream.server
