"""The site under test: the product as `make run` starts it."""

import email
import email.policy
import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from promptly.transactions import transaction
from sandbox.process import wait_until
from tests.sandbox.toy_project import ToyProject, real_project
from tests.support import factories
from tests.support.books import BooksReader
from tests.support.servers import VARIABLES

KEY = re.compile(r"sk-[0-9A-Za-z]{46}")


class Site:
    """A running product: its mails, database, command line, and its providers' controls."""

    def __init__(self, project: ToyProject) -> None:
        self.project = project
        self.url = f"http://127.0.0.1:{project.port}"
        state = project.folder / ".promptly"
        self.runtime = dotenv_values(state / "runtime.env")
        self.books = BooksReader(
            self.runtime["DATABASE_URL"] or "", self.runtime["REDIS_URL"] or ""
        )
        self._mail = state / "mail"
        self._providers = {
            "stripe": self.runtime["STRIPE_API_BASE"],
            "btcpay": self.runtime["BTCPAY_URL"],
        }

    @property
    def admin_key(self) -> str:
        """The admin key, which `make run` also prints."""
        return self.runtime["ADMIN_KEY"] or ""

    def open_account(
        self, address: str, *, paid_tokens: int = 0, trial_tokens: int = 0
    ) -> tuple[str, str]:
        """Create an account with this balance; return its address and its key."""
        with self.books.app.app_context(), transaction():
            user = factories.user(address, paid_tokens=paid_tokens, trial_tokens=trial_tokens)
            raw = factories.api_key(user.id)[1]
            user.key_prefix = raw[:12]
            return user.email, raw

    def ask(self, key: str, text: str = "hello [[sim tokens=12]]") -> dict[str, Any]:
        """Send one chat completion; return the answer and its `request_id`."""
        asked = urllib.request.Request(
            f"{self.url}/v1/chat/completions",
            json.dumps({"messages": [{"role": "user", "content": text}]}).encode(),
            {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=30) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return {**found, "request_id": answer.headers["x-promptly-request-id"]}

    def mails(self, address: str, subject: str) -> list[EmailMessage]:
        """Return the mails to an address with a subject, oldest first."""
        parsed = [
            email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            for path in sorted(self._mail.glob("*.eml"))
        ]
        return [mail for mail in parsed if mail["To"] == address and mail["Subject"] == subject]

    def wait_for_mail(self, address: str, subject: str) -> str:
        """Wait for a mail with a subject; return the text of the newest."""
        wait_until(lambda: bool(self.mails(address, subject)), 30, f"the mail {subject!r}")
        return text_of(self.mails(address, subject)[-1])

    def wait_for_key(self, address: str) -> str:
        """Wait for the mail with a new key; return the key."""
        found = KEY.search(self.wait_for_mail(address, "Your promptly API key"))
        assert found is not None
        return found.group()

    def switch(self, provider: str, name: str, **values: object) -> None:
        """Call a control endpoint of a simulated provider."""
        url = f"{self._providers[provider]}/__sim/{name}"
        asked = urllib.request.Request(url, json.dumps(values).encode(), method="POST")
        urllib.request.urlopen(asked, timeout=10).read()


def text_of(mail: EmailMessage) -> str:
    """Return the text part of a mail."""
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


@contextmanager
def running_site(folder: Path, **variables: str) -> Iterator[Site]:
    """Run the product in a folder of its own, and stop it at the end like Ctrl-C.

    It uses the tests' pepper, so that keys written to the database by a test are valid, and sells
    any amount under the name of a seller.
    """
    project = real_project(folder)
    own = {
        "KEY_PEPPER": VARIABLES["KEY_PEPPER"],
        "REGISTRATION_RATE_LIMIT": "1000",
        "PACK_CUSTOM": "100:50000",
        "SELLER_NAME": "Token Works Ltd",
        "SELLER_ADDRESS": r"1 Mill Lane\nEly",
        "SELLER_TAX_ID": "GB123456789",
    }
    try:
        project.start_and_wait(**own | variables)
        site = Site(project)
        with closing(site.books):
            yield site
        assert project.stop() == 0
    finally:
        project.clean()
