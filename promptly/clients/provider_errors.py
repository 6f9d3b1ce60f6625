"""Errors of calls to a payment provider.

ProviderProblem
├── ProviderUnavailable    no answer in time, or a temporary failure: retry
│   └── ProviderPending    not called: an earlier call may still take effect
├── ProviderRefused        the provider will never accept this call
└── ProviderNotFound       the object does not exist
"""


class ProviderProblem(Exception):
    """Base class; `reason` is for operators and contains no key."""

    def __init__(self, reason: str, *, code: str | None = None) -> None:
        self.reason = reason
        self.code = code
        super().__init__(reason)


class ProviderUnavailable(ProviderProblem):
    """The call failed, and whether it had an effect is unknown.

    `answered`: the provider itself reported the failure. Stripe repeats that answer for the same
    idempotency key, so a retry needs a new one.
    """

    def __init__(self, reason: str, *, answered: bool = False) -> None:
        self.answered = answered
        super().__init__(reason)


class ProviderPending(ProviderUnavailable):
    """The provider was not asked, since an earlier call without an answer may still take effect."""


class ProviderRefused(ProviderProblem):
    """The provider rejected the call, which had no effect."""


class ProviderNotFound(ProviderRefused):
    """The object does not exist, or is not visible to our key."""
