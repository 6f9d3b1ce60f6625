#!/usr/bin/env python3
"""Smoke test of a deployed promptly, from outside.

Each check prints a line: ok, skip with the reason, or FAIL with what was expected and found, and
what to do. The test registers an account of its own and deletes it at the end, whatever happens.

One file that needs only Python 3.11 or newer, so that it can be copied to any machine.
"""

import argparse
import base64
import hashlib
import http.client
import itertools
import json
import os
import re
import secrets
import signal
import ssl
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

Fields = Mapping[str, object]

DEFAULT_URL = "http://100.64.0.1:8505"
ANSWER_SECONDS = 20.0
# A request may wait for a slot of a model server.
INFERENCE_SECONDS = 120.0
RECEIPT_SECONDS = 5.0
# From the start of the test. The worker reports every two seconds; beat may just be starting.
SEEN_SECONDS = 10.0
# Reserved by RFC 2606: mail for it reaches nobody, and is rejected at once instead of being retried
# for days. A mail that failed leaves the outbox with the account.
MAIL_DOMAIN = "smoke.invalid"
# A higher limit than this counts as none; to reach it would be a load test.
MOST_REQUESTS = 1000
RATE_LIMIT_SECONDS = 50.0
CHAT = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8}
ACCOUNT = ["user_id", "email", "paid_tokens", "trial_tokens", "trial_expires_at", "applied_delta"]

DOCTOR = "Run 'flask --app wsgi doctor' on the server, and read the gateway's log."
ADVICE = {
    "postgresql": "Start PostgreSQL or correct DATABASE_URL; run 'flask --app wsgi db upgrade'.",
    "redis": "Start Redis or correct REDIS_URL.",
    "upstream": "Start the model server (llama-server) or correct LLAMA_BASE_URL.",
    "worker": "Start the worker, which sends mail: celery -A wsgi:celery worker",
    "beat": "Start beat, which queues the periodic tasks: celery -A wsgi:celery beat",
    "admin": "Check the admin key, and that ADMIN_ALLOWED_CIDRS contains this machine's address.",
    "limit": "Set INFERENCE_IP_RATE_LIMIT. If it is meant to be so high: --skip-rate-limit.",
}
EPILOG = """\
environment:
  ADMIN_KEY      the admin key, unless --admin-key gives it, where other users of this machine can
                 see it; if both are missing, ADMIN_KEY is read from .env in the current directory
  SMOKE_API_KEY  an API key with a few hundred tokens: with it, two small requests to the model are
                 made, and charged
  SSL_CERT_FILE  the certificate of a private authority, for an https URL

The rate limit check uses up the requests of this machine's address for a minute.
Exit status: 0 if no check failed, 1 if one failed, 2 for wrong usage.
"""


def advice_on(names: Iterable[str]) -> str:
    return "\n      ".join(ADVICE.get(name, DOCTOR) for name in names)


class Failed(Exception):
    """A check found something other than it expected."""

    def __init__(self, expected: str, found: object, advice: str = DOCTOR) -> None:
        super().__init__(f"expected {expected}; found {found}")
        self.advice = advice


class Skipped(Exception):
    """A check cannot run; the message is the reason."""


def expect(right: bool, expected: str, found: object, advice: str = DOCTOR) -> None:
    if not right:
        raise Failed(expected, found, advice)


class Report:
    """The output, in which none of the given keys ever appears."""

    def __init__(self, keys: list[str], *, verbose: bool) -> None:
        self._hidden = [text for key in keys if key for text in (key, quote(key, safe=""))]
        self._verbose = verbose
        self.counts = {"ok": 0, "FAIL": 0, "skip": 0}

    def result(self, word: str, name: str, text: str = "") -> None:
        self.counts[word] += 1
        self.line(f"{word:<5} {name}{': ' if text else ''}{text}")

    def detail(self, text: str) -> None:
        if self._verbose:
            self.line(f"      {text}")

    def line(self, text: str) -> None:
        for key in self._hidden:
            text = text.replace(key, "***")
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


@dataclass(frozen=True)
class Answer:
    """A response. Its text is the status, followed by code and message of an error."""

    status: int
    headers: http.client.HTTPMessage
    body: str

    def json(self) -> dict[str, Any]:
        """Return the body's JSON object; empty if the body is something else."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def error(self) -> dict[str, Any]:
        error = self.json().get("error")
        return error if isinstance(error, dict) else {}

    @property
    def states(self) -> dict[str, str]:
        """The lines `name: state` of /health/ready."""
        return dict(line.split(": ", 1) for line in self.body.splitlines() if ": " in line)

    def __str__(self) -> str:
        if self.error:
            return f"{self.status} {self.error.get('code')}: {self.error.get('message')}"
        return f"{self.status} {http.client.responses.get(self.status, '')}".strip()


class Gateway:
    """HTTP to one site: no redirects, no proxy, no retries."""

    def __init__(self, url: str, report: Report) -> None:
        self._url = urlsplit(url)
        self._report = report
        host, port = self._url.hostname or "", self._url.port
        self._connection = http.client.HTTPConnection(host, port)
        if self._url.scheme == "https":
            context = ssl.create_default_context()
            self._connection = http.client.HTTPSConnection(host, port, context=context)

    def disconnect(self) -> None:
        """Close the connection, which is otherwise kept; the next request opens another one."""
        self._connection.close()

    def ask(
        self, path: str, *, form: Fields | None = None, data: Fields | None = None, key: str = ""
    ) -> Answer:
        """GET, or POST a form or, as JSON, `data`; raises Failed if no whole answer arrives."""
        headers = {"User-Agent": "promptly-smoke-test"}
        method, body, seconds = "GET", None, ANSWER_SECONDS
        if form is not None:
            method, body = "POST", urlencode(form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        elif data is not None:
            method, body, seconds = "POST", json.dumps(data), INFERENCE_SECONDS
            headers["Content-Type"] = "application/json"
        if key:
            headers["Authorization"] = f"Bearer {key}"
        # The query may contain a key.
        name = f"{method} {path.partition('?')[0]}"
        began = time.monotonic()
        try:
            if self._connection.timeout != seconds:
                self.disconnect()
                self._connection.timeout = seconds
            self._connection.request(method, self._url.path + path, body, headers)
            received = b""
            with self._connection.getresponse() as response:
                while part := response.read1():
                    received += part
                    # The comments of a stream that waits for a slot keep the socket alive.
                    if time.monotonic() - began > seconds:
                        raise TimeoutError("the answer does not end")
        except (OSError, http.client.HTTPException) as problem:
            self.disconnect()
            found = f"{type(problem).__name__}: {problem}"
            advice = f"Check that {self._url.netloc} is the gateway, and that it runs."
            if isinstance(problem, ssl.SSLError):
                advice = "For a private certificate authority, set SSL_CERT_FILE (see --help)."
            raise Failed(f"an answer to {name} within {seconds:g} s", found, advice) from problem
        took = time.monotonic() - began
        self._report.detail(f"{name}: {response.status} in {took * 1000:.0f} ms")
        return Answer(response.status, response.headers, received.decode(errors="replace"))


class SmokeTest:
    """The checks of one run, and the state that they share."""

    def __init__(self, gateway: Gateway, report: Report, admin_key: str, api_key: str) -> None:
        self._gateway = gateway
        self._report = report
        self._admin_key = admin_key
        self._api_key = api_key
        self._began = time.monotonic()
        self._email = f"smoke-{secrets.token_hex(8)}@{MAIL_DOMAIN}"
        self._panel_works = False
        # The page of the first registration, and whether a request may have created an account:
        # it may even if no answer arrived.
        self._registered = ""
        self._may_exist = False

    def run(self, *, skip_rate_limit: bool) -> None:
        """Run the checks, and in any case the clean-up."""
        checks: list[tuple[str, Callable[[], None]]] = [
            ("readiness", self.readiness),
            ("register page", self.register_page),
            ("admin panel", self.admin_panel),
            ("new user", self.new_user),
            ("duplicate", self.duplicate),
            ("form API", self.form_api),
            ("no key", partial(self.refusal, "")),
            ("bad key", partial(self.refusal, "sk-not-a-key")),
            ("inference", self.inference),
            ("streamed inference", self.streamed_inference),
            ("worker and beat", self.worker_and_beat),
            ("rate limit", partial(self.rate_limit, skip=skip_rate_limit)),
        ]
        try:
            if self._passes("health", self.health):
                for name, check in checks:
                    self._passes(name, check)
            else:
                self._report.line("      The other checks do not run.")
        except KeyboardInterrupt:
            self._report.result("FAIL", "interrupted")
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            self._passes("clean-up", self.clean_up)

    def _passes(self, name: str, check: Callable[[], None]) -> bool:
        # The server may have closed a connection that was idle.
        self._gateway.disconnect()
        try:
            check()
        except Skipped as reason:
            self._report.result("skip", name, str(reason))
        except Failed as problem:
            self._report.result("FAIL", name, str(problem))
            self._report.line(f"      {problem.advice}")
            return False
        except (LookupError, TypeError, ValueError) as problem:
            self._report.result("FAIL", name, f"an answer has another form: {problem!r}")
            return False
        else:
            self._report.result("ok", name)
        return True

    def health(self) -> None:
        answer = self._gateway.ask("/health")
        right = answer.status == 200 and answer.json() == {"status": "ok"}
        expect(right, 'GET /health: 200 {"status": "ok"}', answer, "Check --url.")

    def readiness(self) -> None:
        answer = self._gateway.ask("/health/ready")
        # Another check waits for the worker and beat.
        away = {
            name: state
            for name, state in answer.states.items()
            if state != "ok" and name not in {"worker", "beat"}
        }
        lines = ", ".join(f"{name}: {state}" for name, state in away.items())
        advice = advice_on(away) or DOCTOR
        right = answer.status == 200 and bool(answer.states) and not away
        expect(right, "GET /health/ready: 200", f"{answer.status} {lines}".strip(), advice)

    def register_page(self) -> None:
        answer = self._gateway.ask("/register")
        right = answer.status == 200 and 'name="email"' in answer.body
        expect(right, "GET /register: 200 and a form", answer)

    def admin_panel(self) -> None:
        answer = self._gateway.ask("/admin")
        expect(answer.status == 403, "GET /admin without a key: 403", answer, ADVICE["admin"])
        answer = self._gateway.ask(f"/admin?{urlencode({'key': self._admin_key})}")
        right = answer.status == 200 and "<title>Overview" in answer.body
        expect(right, "GET /admin with the admin key: 200 and the panel", answer, ADVICE["admin"])
        self._panel_works = True

    def new_user(self) -> None:
        if not self._panel_works:
            raise Skipped("without the admin panel the account could not be deleted again")
        self._registered = self._register()

    def duplicate(self) -> None:
        self._need_user()
        found = "another one, from which strangers learn who has an account"
        expect(self._register() == self._registered, "the page of a new address", found)

    def _register(self) -> str:
        """Register the address and return the page; raises Skipped for a used-up limit."""
        form = {"email": self._email, **self._solution()}
        before, self._may_exist = self._may_exist, True
        answer = self._gateway.ask("/register", form=form)
        if answer.status == 429:
            self._may_exist = before
            raise Skipped("429: REGISTRATION_RATE_LIMIT is used up for this machine's address")
        right = answer.status == 200 and self._email in answer.body
        expect(right, "POST /register: 200 and a page that names the address", answer)
        return answer.body

    def _solution(self) -> Fields:
        """Return the form's field with the solved challenge, if there is one: its proof of work."""
        answer = self._gateway.ask("/register/challenge")
        if answer.status == 404:
            return {}
        challenge = answer.json()
        wanted = challenge["parameters"]
        nonce, salt = (bytes.fromhex(wanted[name]) for name in ("nonce", "salt"))
        for counter in itertools.count():
            password = nonce + counter.to_bytes(4, "big")
            found = hashlib.pbkdf2_hmac(
                "sha256", password, salt, wanted["cost"], wanted["keyLength"]
            ).hex()
            if found.startswith(wanted["keyPrefix"]):
                break
        solved = {"challenge": challenge, "solution": {"counter": counter, "derivedKey": found}}
        return {"altcha": base64.b64encode(json.dumps(solved).encode()).decode()}

    def _need_user(self) -> None:
        if not self._registered:
            raise Skipped("there is no new user")

    def form_api(self) -> None:
        self._need_user()
        added = self._adjust(1000, email=self._email)
        right = (added["paid_tokens"], added["applied_delta"]) == (1000, 1000)
        expect(right, "1000 paid tokens after adding 1000 to a new account", added)
        # A deduction stops at zero. The id and the address must be those of one account.
        taken = self._adjust(-2000, email=self._email, user_id=added["user_id"])
        right = (taken["paid_tokens"], taken["applied_delta"]) == (0, -1000)
        expect(right, "0 paid tokens after taking 2000 of 1000", taken)

    def _adjust(self, delta: int, **account: object) -> dict[str, Any]:
        form = {"key": self._admin_key, "delta": delta, **account}
        answer = self._gateway.ask("/admin/adjust", form=form)
        expect(answer.status == 200, "POST /admin/adjust: 200", answer)
        found = answer.json()
        right = found.keys() == set(ACCOUNT) and found["email"] == self._email
        expect(right, f"the account, with {', '.join(ACCOUNT)}", found)
        return found

    def refusal(self, key: str) -> None:
        answer = self._chat(key)
        right = (answer.status, answer.error.get("code")) == (401, "invalid_api_key")
        expect(right, "POST /v1/chat/completions: 401 invalid_api_key", answer)

    def inference(self) -> None:
        answer = self._completion()
        receipt = self._receipt(answer, answer.json()["usage"])
        names = ("charged", "balance")
        found = {name: int(answer.headers[f"x-promptly-{name}-tokens"]) for name in names}
        right = found == {name: receipt[f"{name}_tokens"] for name in names}
        expect(right, f"the charge and balance of the receipt in the headers: {receipt}", found)

    def streamed_inference(self) -> None:
        answer = self._completion(stream=True, stream_options={"include_usage": True})
        events = re.findall(r"^data: (.+)$", answer.body, re.MULTILINE)
        expect(events[-1:] == ["[DONE]"], "a stream that ends with [DONE]", events[-1:])
        chunks = [json.loads(event) for event in events[:-1]]
        errors = [chunk["error"] for chunk in chunks if "error" in chunk]
        expect(not errors, "a stream without errors", errors)
        self._receipt(answer, chunks[-1]["usage"])

    def _completion(self, **fields: object) -> Answer:
        if not self._api_key:
            raise Skipped("SMOKE_API_KEY is not set")
        answer = self._chat(self._api_key, **fields)
        advice = {401: "Check SMOKE_API_KEY.", 402: "Add tokens to the account of SMOKE_API_KEY."}
        expected = "POST /v1/chat/completions with SMOKE_API_KEY: 200"
        expect(answer.status == 200, expected, answer, advice.get(answer.status, DOCTOR))
        return answer

    def _chat(self, key: str, **fields: object) -> Answer:
        """Ask the model; if an earlier run used up the requests of a minute, wait and ask again."""
        answer = self._gateway.ask("/v1/chat/completions", data=CHAT | fields, key=key)
        if answer.error.get("code") != "rate_limit_exceeded":
            return answer
        wait = min(int(answer.headers["retry-after"]), 60) + 1
        self._report.line(f"      waiting {wait} s: the requests of this minute are used up")
        self._gateway.disconnect()
        time.sleep(wait)
        return self._gateway.ask("/v1/chat/completions", data=CHAT | fields, key=key)

    def _receipt(self, answer: Answer, usage: dict[str, int]) -> dict[str, Any]:
        """Return the receipt, which must have the counts of the answer's `usage`.

        It proves the charge, because other requests of the key do not change it; they change the
        balance.
        """
        counts = {name: usage[name] for name in ("prompt_tokens", "completion_tokens")}
        expect(all(counts.values()), "tokens in the answer's usage", usage)
        request_id = answer.headers["x-promptly-request-id"]
        path = f"/v1/usage?{urlencode({'request_id': request_id})}"
        deadline = time.monotonic() + RECEIPT_SECONDS
        while (found := self._gateway.ask(path, key=self._api_key)).status == 404:
            expect(time.monotonic() < deadline, f"a receipt for {request_id}", found)
            time.sleep(0.2)
        receipt = found.json()
        wanted = {**counts, "outcome": "completed", "uncharged_tokens": 0}
        right = {name: receipt.get(name) for name in wanted} == wanted
        expect(right, f"a receipt with {wanted}", receipt or found)
        self._report.detail(f"charged {receipt['charged_tokens']} tokens")
        return receipt

    def worker_and_beat(self) -> None:
        """Wait until both were seen, the worker since the start of this test."""
        while True:
            elapsed = time.monotonic() - self._began
            states = self._gateway.ask("/health/ready").states
            found = {name: states.get(name, "no line") for name in ("worker", "beat")}
            # The age is rounded down.
            age = re.fullmatch(r"ok \(seen (\d+) s ago\)", found["worker"])
            is_new = age is not None and int(age[1]) + 1 <= elapsed
            alive = {"worker": is_new, "beat": found["beat"].startswith("ok")}
            if all(alive.values()):
                return
            if elapsed > SEEN_SECONDS:
                lines = ", ".join(f"{name}: {state}" for name, state in found.items())
                advice = advice_on(name for name, right in alive.items() if not right)
                expected = "GET /health/ready to show both, the worker seen since this test began"
                raise Failed(expected, lines, advice)
            time.sleep(0.5)

    def rate_limit(self, *, skip: bool) -> None:
        """Use up the requests per minute of one address: one connection, and no key."""
        if skip:
            raise Skipped("--skip-rate-limit")
        sent, limit, began = 0, MOST_REQUESTS, time.monotonic()
        # While Redis is away, every process counts for itself: send more than the limit.
        while sent < limit * 3 // 2 and time.monotonic() - began < RATE_LIMIT_SECONDS:
            answer = self._gateway.ask("/v1/models")
            sent += 1
            if answer.status == 429:
                right = answer.headers.get("retry-after", "").isdecimal()
                return expect(right, "retry-after in a 429", answer)
            expect(answer.status == 401, "GET /v1/models without a key: 401 or 429", answer)
            limit = int(answer.headers["x-ratelimit-limit-requests"])
            expected = f"a limit of at most {MOST_REQUESTS} requests per minute and address"
            expect(limit <= MOST_REQUESTS, expected, f"{limit} requests", ADVICE["limit"])
        found = f"{sent} that were not, in {time.monotonic() - began:.0f} s"
        raise Failed(f"a request to be refused with 429 (limit {limit})", found, ADVICE["limit"])

    def clean_up(self) -> None:
        if not self._may_exist:
            raise Skipped("no account was created")
        by_hand = f"flask --app wsgi users delete {self._email} --yes"
        advice = f"Delete the account {self._email} in the panel, or on the server: {by_hand}"
        try:
            form = {"key": self._admin_key, "email": self._email}
            answer = self._gateway.ask("/admin/delete", form=form)
        except Failed as problem:
            raise Failed("the account to be deleted", problem, advice) from None
        gone = answer.status == 200 or (answer.status == 404 and not self._registered)
        expect(gone, "POST /admin/delete: 200", answer, advice)


def admin_key_of(file: Path) -> str:
    """Return ADMIN_KEY of a .env file, as the gateway reads it; empty if it is missing."""
    try:
        text = file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return ""
    assignment = re.compile(
        r"""^[ \t]*(?:export[ \t]+)?ADMIN_KEY[ \t]*=(?P<blank>[ \t]*+)
        (?:'(?P<single>(?:\\.|[^'\\])*)' | "(?P<double>(?:\\.|[^"\\])*)" | (?P<plain>[^'"\n].*)?)
        [ \t]*(?:\#.*)?$""",
        re.MULTILINE | re.VERBOSE,
    )
    value = ""
    for found in assignment.finditer(text):
        if found["single"] is not None:
            value = re.sub(r"\\([\\'])", r"\1", found["single"])
        elif found["double"] is not None:
            value = re.sub(r"\\([\\'\"])", r"\1", found["double"])
        else:
            # A # starts a comment after a blank only.
            value = re.sub(r"\s+#.*", "", found["blank"] + (found["plain"] or ""))
    return value.strip()


def http_url(text: str) -> str:
    """Parse --url; its path, if any, comes before the gateway's own. Raises ValueError."""
    parts = urlsplit(text.strip().rstrip("/"))
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError
    return parts.geturl()


def main() -> int:
    """Run the smoke test and return the exit status."""
    parser = argparse.ArgumentParser(
        description="Check from outside that a promptly works.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", type=http_url, default=DEFAULT_URL, help="default: %(default)s")
    parser.add_argument("--admin-key", default="", help="default: $ADMIN_KEY, or that of .env")
    parser.add_argument("--skip-rate-limit", action="store_true", help="leave this check out")
    parser.add_argument("--verbose", action="store_true", help="show each request")
    options = parser.parse_args()
    given = options.admin_key.strip() or os.environ.get("ADMIN_KEY", "").strip()
    admin_key = given or admin_key_of(Path(".env"))
    if not admin_key:
        parser.error("no admin key: set ADMIN_KEY in the environment or in .env")
    api_key = os.environ.get("SMOKE_API_KEY", "").strip()

    # Clean up after SIGTERM, too.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    report = Report([admin_key, api_key], verbose=options.verbose)
    report.line(f"promptly at {options.url}")
    test = SmokeTest(Gateway(options.url, report), report, admin_key, api_key)
    test.run(skip_rate_limit=options.skip_rate_limit)
    ok, failed, skipped = report.counts.values()
    report.line(f"{ok} ok, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
