from datetime import UTC, datetime, timedelta

from tests.blueprints.v1.client import Client
from tests.support.books import BooksReader
from tests.support.servers import Gateway


def test_a_balance_with_a_trial(gateway: Gateway, books: BooksReader) -> None:
    account = books.account(paid_tokens=50, trial_tokens=30)
    balance = Client(gateway.url, account.key).get("/v1/balance").json
    expires = datetime.fromisoformat(balance.pop("trial_expires_at"))
    assert timedelta(days=6) < expires - datetime.now(UTC) < timedelta(days=8)
    assert balance == {
        "object": "balance",
        "available_tokens": 80,
        "trial_tokens": 30,
        "paid_tokens": 50,
        "reserved_tokens": 0,
    }
