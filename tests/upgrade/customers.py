"""Customers as the commands, the API and their mailboxes see them, whatever the release."""

import re
from dataclasses import dataclass

import requests

from sandbox.mail import MailCatcher
from sandbox.process import wait_until
from tests.support.browser import TIMEOUT_SECONDS
from tests.upgrade.release import Release

LINK = re.compile(r"https?://\S+/dashboard/delete/confirm\?token=\S+")
PAID_TOKENS = 50_000_000


@dataclass
class Customer:
    """An account with its key, and how many tokens it had at first."""

    user_id: int
    email: str
    key: str
    tokens: int


def create(release: Release, email: str, tokens: int = PAID_TOKENS) -> Customer:
    """Create an account with the release's commands."""
    user_id = release.flask_json("users", "create", email)["user_id"]
    if tokens:
        release.flask("balance", "adjust", "--email", email, "--delta", str(tokens))
    made = release.flask_json("keys", "create", "--email", email, "--name", "laptop")
    return Customer(user_id, email, made["key"], 0)


def ask_for_account(url: str, email: str) -> None:
    """Register, as the documented curl does; the key follows by mail."""
    answer = requests.post(f"{url}/register", {"email": email}, timeout=TIMEOUT_SECONDS)
    assert answer.status_code == 200, answer.text[-500:]


def mailed(mail: MailCatcher, email: str, pattern: re.Pattern[str], seconds: float = 60) -> str:
    """Wait for a mail to an address that matches; return the match. Other mails may come first."""
    found: list[str] = []

    def has_arrived() -> bool:
        parts = [message.get_body(("plain",)) for message in mail.messages(email)]
        matches = [pattern.search(part.get_content()) for part in parts if part is not None]
        found.extend(match.group() for match in matches if match is not None)
        return bool(found)

    wait_until(has_arrived, seconds, f"a mail to {email} with {pattern.pattern}")
    return found[0]


def balance(url: str, key: str) -> int:
    """Return the tokens of an account, as the API shows them."""
    answer = requests.get(
        f"{url}/v1/balance", headers={"Authorization": f"Bearer {key}"}, timeout=TIMEOUT_SECONDS
    )
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return int(found["paid_tokens"]) + int(found["trial_tokens"])
