"""One model on one model server, as this process last saw it."""

import time
from dataclasses import dataclass, field
from urllib.parse import quote

from promptly.clients.llama import LlamaClient
from promptly.gateway.shared_calls import SharedCall

EMBEDDINGS_PATH = "/v1/embeddings"
SLOTS_PATH = "/slots"


@dataclass(slots=True)
class Upstream:
    """One model on one llama-server as last probed.

    `slots` is how many requests it runs at a time. `model` is the name that clients see, `aliases`
    others that the server gives it. A model of a `router` may not be loaded.
    """

    client: LlamaClient
    only_embeddings: bool = False
    ready: bool = False
    slots: int = 0
    n_ctx: int = 0
    model: str = ""
    aliases: tuple[str, ...] = ()
    router: "Upstream | None" = None
    is_router: bool = False
    is_loaded: bool = True
    # It could not be loaded the last time.
    load_failed: bool = False
    # Whether it says which slots are idle.
    shows_slots: bool = False
    # An operator has taken the server out of service: it gets no new request.
    drained: bool = False
    probed_at: float = field(default=float("-inf"))
    # Until the next probe, and how many have failed since the last one that did not.
    pause: float = 0.0
    failures: int = 0
    # Why the last probe failed, in a few words.
    problem: str = ""
    probing: SharedCall = field(default_factory=SharedCall)
    # A request has failed and no probe has run since.
    doubted: bool = False
    # Paths that it does not serve, each with the (monotonic) time until which we believe it.
    lacking: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The upstream's name in Redis and in logs: no spaces, for the script separates by them."""
        return self.url if self.router is None else f"{self.url}?model={quote(self.model, safe='')}"

    @property
    def url(self) -> str:
        """The server's URL, as configured."""
        return self.client.base_url

    @property
    def takes_requests(self) -> bool:
        """Whether it may get a new request."""
        return self.ready and not self.drained

    @property
    def is_known(self) -> bool:
        """Whether it has been probed."""
        return self.probed_at != float("-inf")

    @property
    def is_unloaded(self) -> bool:
        """Whether its router answers, but has not loaded it."""
        return self.router is not None and self.router.ready and not self.is_loaded

    def holds(self, model: str) -> bool:
        """Return whether this is the model's name or one of its aliases."""
        return bool(model) and (model == self.model or model in self.aliases)

    def serves(self, path: str) -> bool:
        """Return whether a request to this path is worth trying."""
        if self.is_router or (self.only_embeddings and path not in ("", EMBEDDINGS_PATH)):
            return False
        return path not in self.lacking or self.lacking[path] < time.monotonic()
