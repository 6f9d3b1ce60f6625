"""How a call to a payment provider can fail.

ProviderProblem
├── ProviderUnavailable    no answer in time, or an answer that it cannot work now: try again
├── ProviderRefused        it will never do this as asked
└── ProviderNotFound       there is no such object
"""


class ProviderProblem(Exception):
    """Base of the tree; `reason` is for operators and holds no key."""

    def __init__(self, reason: str, *, code: str | None = None) -> None:
        self.reason = reason
        self.code = code
        super().__init__(reason)


class ProviderUnavailable(ProviderProblem):
    """Whether the call had an effect is unknown.

    `answered`: the provider itself said that it failed. Stripe gives the same answer again to the
    same idempotency key, so another try needs another one.
    """

    def __init__(self, reason: str, *, answered: bool = False) -> None:
        self.answered = answered
        super().__init__(reason)


class ProviderRefused(ProviderProblem):
    """The call had no effect."""


class ProviderNotFound(ProviderRefused):
    """What was asked for does not exist, or not for our key."""
