"""A browser without a screen: one person's cookies, and the forms of the pages."""

import re

import requests

KEY = re.compile(r"sk-[0-9A-Za-z]{46}")
TOKEN = re.compile(r'name="csrf_token"[^>]*value="([^"]+)"')
TIMEOUT_SECONDS = 40


class UnexpectedPage(RuntimeError):
    """A page that lacks the expected form, or an answer that is an error."""


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

    def sign_in_to_panel(self, admin_key: str) -> int:
        """Sign in to the operator's panel; return the status, 303 if it opens."""
        return self._post("/admin/session", key=admin_key).status_code

    def is_signed_in(self) -> bool:
        """Whether the dashboard opens."""
        return self._get("/dashboard").status_code == 200

    def is_in_panel(self) -> bool:
        """Whether the panel opens, not its sign-in form."""
        return self._get("/admin").status_code == 200

    def order(self, method: str, pack: str = "standard") -> str:
        """Choose a pack on the dashboard; return the address of the provider's page."""
        answer = self._submit("/checkout", pack=pack, method=method)
        if answer.status_code != 303:
            raise UnexpectedPage(f"{answer.status_code} {answer.text[-500:]}")
        return answer.headers["Location"]

    def create_key(self, name: str, **others: str) -> str:
        """Create a key on the dashboard and return it."""
        found = KEY.search(self._submit("/dashboard/keys", name=name, **others).text)
        if found is None:
            raise UnexpectedPage("the dashboard shows no new key")
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
        if found is None:
            raise UnexpectedPage("the dashboard has no form")
        return self._post(path, csrf_token=found.group(1), **fields)

    def _get(self, path: str) -> requests.Response:
        return self._session.get(
            f"{self._url}{path}", allow_redirects=False, timeout=TIMEOUT_SECONDS
        )

    def _post(self, path: str, **fields: str) -> requests.Response:
        return self._session.post(
            f"{self._url}{path}", fields, allow_redirects=False, timeout=TIMEOUT_SECONDS
        )
