"""Fills an empty database for a measurement and prints the keys of the accounts that will be busy.

``python -m bench.scale.fill DATABASE_URL ACCOUNTS EVENTS``; the keys are a JSON list. A process of
its own, because an application leaves connections and threads behind.
"""

import json
import sys

from bench import seed
from bench.results import say
from promptly.app import create_app
from promptly.services.accounts import keys
from promptly.services.ledger import ledger
from promptly.settings import Settings
from promptly.transactions import transaction

# Requests come from this many accounts in turn, or from all if there are fewer.
MOST_BUSY = 1000
_TOKENS = 1_000_000_000


def busy_accounts(accounts: int) -> list[int]:
    """Return ids from the first account, which has most usage, evenly to the newest ones."""
    count = min(accounts, MOST_BUSY)
    return [1 + index * accounts // count for index in range(count)]


def fill(accounts: int, events: int, settings: Settings) -> list[str]:
    """Seed the current application's database; return the busy accounts' keys.

    Raises NotEmpty and ValueError as `seed` does.
    """
    seed.migrate()
    seed.seed(accounts, events, lambda line: say(f"  {line}"))
    raw_keys = []
    with transaction():
        for user_id in busy_accounts(accounts):
            ledger.adjust(user_id, _TOKENS, actor="bench")
            raw_keys.append(keys.create(user_id, "bench", settings.key_pepper)[1])
    return raw_keys


def main() -> None:
    url, accounts, events = sys.argv[1:]
    settings = seed.settings_for(url)
    with create_app(settings).app_context():
        print(json.dumps(fill(int(accounts), int(events), settings)))


if __name__ == "__main__":
    main()
