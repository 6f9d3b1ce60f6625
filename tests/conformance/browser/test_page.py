"""OpenAI's SDK for JavaScript in Chromium, on a page of another origin, as docs/clients has it."""

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Page

from promptly.blueprints.docs.library import EXAMPLE_URL
from tests.browser.chromium import chromium
from tests.conformance import outside
from tests.conformance.asking import NO_END, only_simulator
from tests.conformance.backends import Backend
from tests.docs.snippets import all_snippets
from tests.support.books import Account

pytestmark = [pytest.mark.browser, pytest.mark.node]

PAGE = b"""<!doctype html><title>A page of another origin</title>
<script type="importmap">{"imports": {"openai": "/openai/index.mjs"}}</script>"""
TIMEOUT_MS = 30_000

CREATE = """async ({baseURL, apiKey, body}) => {
  const { default: OpenAI } = await import("openai");
  const client = new OpenAI({ baseURL, apiKey, dangerouslyAllowBrowser: true, maxRetries: 0 });
  try {
    const { data, response } = await client.chat.completions.create(body).withResponse();
    return { text: data.choices[0].message.content, headers: [...response.headers.keys()] };
  } catch (error) {
    const { status, code, requestID } = error;
    return { kind: error.constructor.name, status, code, requestID };
  }
}"""
ASK = """async ({apiKey, question}) => {
  const { ask } = await import("/snippet.mjs");
  const pieces = [];
  await ask(apiKey, question, (text) => pieces.push(text));
  return pieces;
}"""


class Site(SimpleHTTPRequestHandler):
    """Serves a page, the snippet of the document, and the files of node_modules."""

    snippet = b""

    def do_GET(self) -> None:
        if self.path == "/":
            self._answer("text/html", PAGE)
        elif self.path == "/snippet.mjs":
            self._answer("text/javascript", self.snippet)
        else:
            super().do_GET()

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def page(backend: Backend) -> Iterator[Page]:
    """A page of another origin than the gateway's; the port makes the difference."""
    [snippet] = [each for each in all_snippets() if each.document == "docs/clients/browser.md"]
    text = snippet.text.replace(EXAMPLE_URL, backend.gateway.url)
    site = type("ThisSite", (Site,), {"snippet": text.encode()})
    handler = partial(site, directory=str(outside.installed(outside.NODE_MODULES)))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with chromium() as browser:
            opened = browser.new_page()
            opened.set_default_timeout(TIMEOUT_MS)
            opened.goto(f"http://127.0.0.1:{server.server_port}/")
            yield opened
        server.shutdown()


@only_simulator
def test_the_snippet_streams(page: Page, account: Account) -> None:
    question = "hello [[sim tokens=12]]"
    pieces = page.evaluate(ASK, {"apiKey": account.key, "question": question})
    assert len([piece for piece in pieces if piece]) > 3


def test_headers_and_errors_can_be_read(page: Page, backend: Backend, account: Account) -> None:
    def create(key: str, url: str = backend.base_url, **fields: Any) -> Any:
        body = {"model": "any", "messages": [{"role": "user", "content": "hello"}], **fields}
        return page.evaluate(CREATE, {"baseURL": url, "apiKey": key, "body": body})

    answered = create(account.key, max_tokens=10, **NO_END)
    assert answered["text"]
    assert {
        "x-request-id",
        "x-ratelimit-remaining-requests",
        "x-promptly-request-id",
        "x-promptly-charged-tokens",
    } <= set(answered["headers"])
    wrong = create("sk-wrong")
    assert (wrong["kind"], wrong["code"]) == ("AuthenticationError", "invalid_api_key")
    assert wrong["requestID"].startswith("req_")
    bad = create(account.key, n=2)
    assert (bad["kind"], bad["code"]) == ("BadRequestError", "unsupported_parameter")
    lost = create(account.key, f"{backend.base_url}/v1")
    assert (lost["kind"], lost["code"]) == ("NotFoundError", "unknown_url")
