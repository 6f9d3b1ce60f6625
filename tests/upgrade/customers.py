"""Customers and the operator as their browsers and mailboxes see promptly, whatever its release."""

import re
from dataclasses import dataclass

import requests

from sandbox.mail import MailCatcher
from tests.upgrade.release import Release

KEY = re.compile(r"sk-[0-9A-Za-z]{46}")
LINK = re.compile(r"https?://\S+/dashboard/delete/confirm\?token=\S+")
TOKEN = re.compile(r'name="csrf_token"[^>]*value="([^"]+)"')
ADMIN_KEY = "the-operator-of-both-releases-0123456789"
TIMEOUT_SECONDS = 40
PAID_TOKENS = 50_000_000


@dataclass
class Customer:
    """An account with its key, and how many tokens it had at first."""

    user_id: int
    email: str
    key: str
    tokens: int


class Browser:
    """A browser with the cookies of one person, at the site's address or at one gateway."""

    def __init__(self, url: str, session: requests.Session | None = None) -> None:
        self._url = url
        self._session = session or requests.Session()

    def at(self, url: str) -> "Browser":
        """Return the same browser, with the same cookies, at another gateway."""
        return Browser(url, self._session)

    def sign_in(self, key: str) -> int:
        """Sign in to the dashboard; return the status, 303 if it opens."""
        return self._post("/session", key=key).status_code

    def sign_in_to_panel(self) -> None:
        assert self._post("/admin/session", key=ADMIN_KEY).status_code == 303

    def is_signed_in(self) -> bool:
        """Whether the dashboard opens."""
        return self._get("/dashboard").status_code == 200

    def is_in_panel(self) -> bool:
        """Whether the panel opens, not its sign-in form."""
        return self._get("/admin").status_code == 200

    def order(self, method: str) -> None:
        """Choose a pack on the dashboard, and go as far as the provider's page."""
        answer = self._submit("/checkout", pack="standard", method=method)
        assert answer.status_code == 303, answer.text[-500:]

    def create_key(self, name: str, **others: str) -> str:
        """Create a key on the dashboard and return it."""
        found = KEY.search(self._submit("/dashboard/keys", name=name, **others).text)
        assert found is not None
        return found.group()

    def ask_for_deletion(self) -> None:
        """Have the link that deletes the account mailed."""
        assert self._submit("/dashboard/delete").status_code in {200, 303}

    def follow(self, link: str) -> int:
        """Follow a link of a mail and press its button; return the status of the answer."""
        path, _, token = link.removeprefix(self._url).partition("?token=")
        assert self._get(f"{path}?token={token}").status_code == 200
        return self._post(path, token=token).status_code

    def _submit(self, path: str, **fields: str) -> requests.Response:
        found = TOKEN.search(self._get("/dashboard").text)
        assert found is not None, "the dashboard has no form"
        return self._post(path, csrf_token=found.group(1), **fields)

    def _get(self, path: str) -> requests.Response:
        return self._session.get(
            f"{self._url}{path}", allow_redirects=False, timeout=TIMEOUT_SECONDS
        )

    def _post(self, path: str, **fields: str) -> requests.Response:
        return self._session.post(
            f"{self._url}{path}", fields, allow_redirects=False, timeout=TIMEOUT_SECONDS
        )


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
    """Wait for a mail to an address, and return what of it matches."""
    part = mail.wait_for(email, seconds).get_body(("plain",))
    assert part is not None
    found = pattern.search(part.get_content())
    assert found is not None, part.get_content()
    return found.group()


def balance(url: str, key: str) -> int:
    """Return the tokens of an account, as the API shows them."""
    answer = requests.get(
        f"{url}/v1/balance", headers={"Authorization": f"Bearer {key}"}, timeout=TIMEOUT_SECONDS
    )
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return int(found["paid_tokens"]) + int(found["trial_tokens"])
