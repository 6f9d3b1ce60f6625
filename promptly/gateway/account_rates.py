"""Rates of accounts that have their own, by the hash of each key, in memory.

Requests are counted before their key is looked up, so the rate must be known without a look-up. A
change takes effect within REFRESH_SECONDS; while PostgreSQL is away, the rates read last apply.
"""

import logging
import threading
import time
from collections.abc import Sequence

from promptly.errors import PromptlyError
from promptly.runtime.database import HotPathDatabase
from promptly.services.accounts import account_limits
from promptly.services.accounts.account_limits import AccountRate

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 5.0
# How long the first requests of a process wait for the first reading.
FIRST_WAIT_SECONDS = 0.5


class AccountRates:
    """The rates that one process knows; a request that finds them old has them read again."""

    def __init__(self, database: HotPathDatabase) -> None:
        self._database = database
        self._rates: dict[bytes, AccountRate] = {}
        self._due_at = 0.0
        self._reading = threading.Lock()
        self._was_read = threading.Event()

    def find(self, key_hashes: Sequence[bytes]) -> AccountRate | None:
        """Return the rate of the account whose key has one of these hashes, if it has its own."""
        if time.monotonic() >= self._due_at:
            self._read_again()
        rates = self._rates
        if rates:
            for key_hash in key_hashes:
                rate = rates.get(key_hash)
                if rate is not None:
                    return rate
        return None

    def _read_again(self) -> None:
        """Read the rates in another thread, unless one does already."""
        if self._reading.acquire(blocking=False):
            try:
                threading.Thread(target=self._read, name="account-rates", daemon=True).start()
            except BaseException:
                self._reading.release()
                raise
        if not self._was_read.is_set():
            self._was_read.wait(FIRST_WAIT_SECONDS)

    def _read(self) -> None:
        try:
            self._rates = account_limits.read_rates(self._database)
        except PromptlyError:
            logger.warning("rates of accounts not read")
        except Exception:
            # A bug must not fail requests: the limits of addresses and keys still apply.
            logger.exception("rates of accounts not read")
        finally:
            self._due_at = time.monotonic() + REFRESH_SECONDS
            self._was_read.set()
            self._reading.release()
