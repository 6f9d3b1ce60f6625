"""A browser for attackers: its cookie can be copied, and it follows no redirect by itself."""

import http.client
from dataclasses import dataclass
from urllib.parse import urlencode

TIMEOUT_SECONDS = 60.0
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "cross-site"}


@dataclass(frozen=True)
class Page:
    """An answer of the site."""

    status: int
    location: str | None
    text: str

    @property
    def form_token(self) -> str:
        return self.text.split('name="csrf_token" value="')[1].split('"')[0]


class Browser:
    """A browser's session cookie; copies of it do not see what becomes of the original."""

    def __init__(self, port: int, cookie: str = "") -> None:
        self._port = port
        self.cookie = cookie

    def copy(self) -> "Browser":
        return Browser(self._port, self.cookie)

    def get(self, path: str, headers: dict[str, str] | None = None) -> Page:
        return self._ask("GET", path, headers or {}, None)

    def post(self, path: str, headers: dict[str, str] | None = None, **form: str) -> Page:
        sent = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        return self._ask("POST", path, sent, urlencode(form))

    def sign_in(self, key: str) -> None:
        page = self.post("/session", key=key)
        assert (page.status, page.location) == (303, "/dashboard")

    def _ask(self, method: str, path: str, headers: dict[str, str], body: str | None) -> Page:
        # A new connection each time: it may reach either worker.
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_SECONDS)
        try:
            sent = {**headers, "Cookie": self.cookie} if self.cookie else headers
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        for value in answer.headers.get_all("Set-Cookie", []):
            if value.startswith("promptly_session="):
                self.cookie = value.partition(";")[0]
        return Page(answer.status, answer.headers["Location"], text)
