"""A request to /v1 as its guard, its view and its errors see it."""

from typing import Any

from promptly.gateway import Gateway
from promptly.gateway.body_budget import BodyShare
from promptly.proxies import address_of, network_of
from promptly.request_ids import new_request_id, public_id
from promptly.services.accounts.authentication import Caller


class ApiRequest:
    """A request's WSGI environ, and what becomes known of it on its way.

    `network` is the pseudonym of the client's network. The guard sets `caller` and `rate_headers`;
    `body_share` is the memory of the body, until the request's relay takes it over.
    """

    __slots__ = (
        "address",
        "body_share",
        "caller",
        "environ",
        "gateway",
        "id",
        "is_anthropic",
        "network",
        "rate_headers",
        "uuid",
    )

    caller: Caller

    def __init__(self, gateway: Gateway, environ: dict[str, Any], *, is_anthropic: bool) -> None:
        self.gateway = gateway
        self.environ = environ
        self.is_anthropic = is_anthropic
        self.uuid = new_request_id()
        self.id = public_id(self.uuid)
        self.address = address_of(environ, gateway.settings.trusted_proxy_hops)
        self.network = gateway.pseudonyms.of(network_of(self.address))
        self.rate_headers: dict[str, str] = {}
        self.body_share: BodyShare | None = None

    @property
    def is_unproven(self) -> bool:
        """Whether the caller is one that the hold has yet to authenticate."""
        caller = getattr(self, "caller", None)
        return caller is not None and caller.unproven_key_hash is not None

    def standing_headers(self) -> list[tuple[str, str]]:
        """Return the headers of every answer, errors included."""
        headers = [("x-request-id", self.id), *self.rate_headers.items()]
        if self.is_anthropic:
            # Anthropic's SDKs read this header.
            headers.append(("request-id", self.id))
        # Only browsers send it.
        origin = self.environ.get("HTTP_ORIGIN")
        if origin is not None:
            headers += self.gateway.cors.headers(origin)
        return headers

    def hand_over_body(self) -> BodyShare:
        """Return the body's share of memory to a relay, which outlives the view and gives it back.

        Only after the body was taken, and once.
        """
        share = self.body_share
        assert share is not None
        self.body_share = None
        return share

    def give_back_body(self) -> None:
        """Give the body's share of memory back, unless a relay has it."""
        if self.body_share is not None:
            self.hand_over_body().give_back()
