"""Limits of a key that are checked when it is presented: where from, and for which models."""

import ipaddress
from collections.abc import Mapping
from functools import lru_cache

from promptly.errors import AddressNotAllowed, ModelNotAllowed

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Leash:
    """The models and the addresses (CIDR) that a key is limited to; None for any."""

    __slots__ = ("_addresses", "models")

    def __init__(self, models: list[str] | None, addresses: list[str] | None) -> None:
        self.models = models
        self._addresses = None if addresses is None else tuple(addresses)

    def require_address(self, address: str) -> None:
        """Raise AddressNotAllowed unless the key may be used from this address."""
        if self._addresses is not None and not _is_within(address, _networks(self._addresses)):
            raise AddressNotAllowed(f"This API key may not be used from {address}.")

    def allows_model(self, model: str, aliases: Mapping[str, str]) -> bool:
        """Whether the key may use a model, named as it is or by an alias."""
        return self.models is None or any(
            model in (name, aliases.get(name)) for name in self.models
        )

    def require_model(self, model: str, aliases: Mapping[str, str]) -> None:
        """Raise ModelNotAllowed unless the key may use the model."""
        if not self.allows_model(model, aliases):
            raise ModelNotAllowed(
                f"This API key may not use the model '{model}'. It may use: "
                f"{', '.join(self.models or ())}.",
                param="model",
            )


@lru_cache(maxsize=1024)
def _networks(texts: tuple[str, ...]) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


def _is_within(text: str, networks: tuple[_Network, ...]) -> bool:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        # A request over a Unix socket, or through a proxy that hides the client.
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
