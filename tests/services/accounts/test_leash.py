"""Models and addresses that a key is limited to."""

import pytest

from promptly.errors import AddressNotAllowed, ModelNotAllowed
from promptly.services.accounts.leash import Leash


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("192.0.2.9", True),
        ("::ffff:192.0.2.9", True),
        ("192.0.3.9", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("fe80::1%eth0", False),
        # A client that the proxy hides, or a Unix socket.
        ("unknown", False),
        ("local", False),
    ],
)
def test_addresses(address: str, allowed: bool) -> None:
    leash = Leash(None, ["192.0.2.0/24", "2001:db8::/32"])
    if allowed:
        leash.require_address(address)
    else:
        with pytest.raises(AddressNotAllowed, match="may not be used from"):
            leash.require_address(address)
    Leash(None, None).require_address(address)


def test_models_and_aliases() -> None:
    aliases = {"small": "qwen3-4b", "large": "qwen3-30b"}
    leash = Leash(["small", "embedder"], None)
    leash.require_model("qwen3-4b", aliases)
    leash.require_model("embedder", aliases)
    with pytest.raises(ModelNotAllowed, match=r"'qwen3-30b'\. It may use: small, embedder"):
        leash.require_model("qwen3-30b", aliases)
    assert Leash(None, ["10.0.0.0/8"]).allows_model("anything", aliases)
