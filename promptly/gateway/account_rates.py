"""Rates of accounts that have their own, by the hash of each key, in memory.

Requests are counted before their key is looked up, so the rate must be known without a look-up. A
change takes effect within REFRESH_SECONDS.
"""

from collections.abc import Sequence
from functools import partial

from promptly.gateway.refreshed import Refreshed
from promptly.runtime.database import HotPathDatabase
from promptly.services.accounts import account_limits
from promptly.services.accounts.account_limits import AccountRate

REFRESH_SECONDS = 5.0


class AccountRates:
    """The rates that one process knows; only its first requests wait for them."""

    def __init__(self, database: HotPathDatabase) -> None:
        self._rates: Refreshed[dict[bytes, AccountRate]] = Refreshed(
            "account-rates",
            partial(account_limits.read_rates, database),
            {},
            every_seconds=REFRESH_SECONDS,
        )

    def find(self, key_hashes: Sequence[bytes]) -> AccountRate | None:
        """Return the rate of the account whose key has one of these hashes, if it has its own."""
        rates = self._rates.get()
        if rates:
            for key_hash in key_hashes:
                rate = rates.get(key_hash)
                if rate is not None:
                    return rate
        return None
