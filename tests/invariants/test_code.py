"""Rules that the source code and the routes must satisfy."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from promptly.blueprints import purchases, site


def sources(project: Path) -> Iterator[tuple[str, str]]:
    for path in sorted((project / "promptly").rglob("*.py")):
        yield str(path.relative_to(project)), path.read_text()


def test_only_transactions_commit(project: Path) -> None:
    found = {
        name
        for name, text in sources(project)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and node.attr == "commit"
    }
    assert found == {"promptly/transactions.py"}


# They wait or call a provider between two short transactions, so no caller could open one for them.
OPEN_TRANSACTIONS = {
    "promptly/services/account_deletion.py": "waits for running requests to end",
    "promptly/services/usage/account_statements.py": "streams an export for minutes",
    "promptly/services/payments/case_decisions.py": "calls a provider",
    "promptly/services/payments/checkout.py": "calls a provider",
    "promptly/services/payments/reconciliation.py": "calls a provider",
    "promptly/services/payments/refunds.py": "calls a provider",
    "promptly/services/payments/sync.py": "calls a provider",
    "promptly/services/payments/unreported_refunds.py": "calls a provider",
    "promptly/services/payments/webhook_handler.py": "calls a provider",
}


def test_only_named_services_open_transactions(project: Path) -> None:
    found = {
        name
        for name, text in sources(project)
        if name.startswith(("promptly/services", "promptly/models", "promptly/clients"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "transaction"
    }
    assert found == set(OPEN_TRANSACTIONS)


def test_services_do_not_know_flask(project: Path) -> None:
    pattern = re.compile(r"^\s*(from|import) flask\b", re.MULTILINE)
    found = [name for name, text in sources(project) if pattern.search(text)]
    assert not [name for name in found if name.startswith(("promptly/services", "promptly/models"))]


def test_posts_to_the_api_do_not_know_flask(project: Path) -> None:
    """They are served without a context, in which alone Flask's proxies mean something."""
    served_by_flask = {"__init__", "in_flask", "balance", "key", "models", "queue", "usage"}
    pattern = re.compile(
        r"^\s*(from|import) (flask|promptly\.extensions|promptly\.transactions)\b|\bin_flask\b"
        r"|\bcurrent_(gateway|settings)\b|\bclient_(address|network)\b",
        re.MULTILINE,
    )
    texts = {
        path.stem: path.read_text() for path in (project / "promptly/blueprints/v1").glob("*.py")
    }
    assert served_by_flask < set(texts)
    assert not {name for name in set(texts) - served_by_flask if pattern.search(texts[name])}


def test_routes_are_listed_with_add_url_rule(project: Path) -> None:
    others = {"route", "get", "post", "put", "patch", "delete"}
    found = [
        f"{name}:{node.lineno}"
        for name, text in sources(project)
        if name.startswith("promptly/blueprints")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and node.attr in others
        if ast.unparse(node.value) == "blueprint"
    ]
    assert not found


def test_every_page_is_guarded_or_public(worker_app: Flask) -> None:
    endpoints = {rule.endpoint for rule in worker_app.url_map.iter_rules()}
    pages = {name for name in endpoints if name.startswith("site.")}
    assert pages >= site.PUBLIC >= site.WITHOUT_FORM_TOKEN
    known = {"site", "purchases", "webhooks", "v1", "ops", "docs", "openapi", "admin"}
    assert {name.split(".")[0] for name in endpoints} - {"static"} <= known, "a new blueprint"
    client = worker_app.test_client()
    guarded = 0
    for rule in worker_app.url_map.iter_rules():
        if rule.endpoint not in pages - site.PUBLIC:
            continue
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            answer = client.open(re.sub("<[^>]+>", "1", rule.rule), method=method)
            assert (answer.status_code, answer.location) == (303, "/"), rule.rule
            guarded += 1
    assert guarded


def test_every_webhook_is_signed(worker_app: Flask) -> None:
    client = worker_app.test_client()
    rules = [rule for rule in worker_app.url_map.iter_rules() if "webhooks." in rule.endpoint]
    assert len(rules) == 2
    for rule in rules:
        # No provider is configured here, so no secret exists to verify a signature.
        assert client.post(rule.rule).status_code == 404, rule.rule


def test_every_page_of_purchases_is_guarded(worker_app: Flask) -> None:
    client = worker_app.test_client()
    rules = [rule for rule in worker_app.url_map.iter_rules() if "purchases." in rule.endpoint]
    assert {rule.endpoint for rule in rules} > purchases.PUBLIC
    for rule in rules:
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            answer = client.open(rule.rule.replace("<number>", "P-1"), method=method)
            if rule.endpoint in purchases.PUBLIC:
                assert answer.status_code == 401 and "P-1" not in answer.text, rule.rule
            else:
                assert (answer.status_code, answer.location) == (303, "/"), rule.rule


@pytest.mark.usefixtures("redis_url")  # empty, so no rate limit is used up
def test_every_v1_route_refuses_requests_without_a_key(worker_app: Flask) -> None:
    client = worker_app.test_client()
    for rule in worker_app.url_map.iter_rules():
        if not rule.rule.startswith("/v1/") or "<" in rule.rule:
            continue
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            answer = client.open(rule.rule, method=method, json={})
            assert answer.status_code == 401, (rule.rule, method)


@pytest.mark.parametrize("pattern", [r"\bstyle=", r"<script(?![^>]*\bsrc=)", r"\bon[a-z]+="])
def test_pages_have_nothing_inline(project: Path, pattern: str) -> None:
    for path in (project / "templates").rglob("*.html"):
        if path.parent.name != "mail":  # mail clients ignore external stylesheets
            assert not re.search(pattern, path.read_text()), path


def test_links_of_pages_name_endpoints(project: Path) -> None:
    for path in (project / "templates").rglob("*.html"):
        if path.parent.name != "mail":  # mails are read elsewhere: their links start with BASE_URL
            assert not re.search(r"(href|src|action|data-[a-z-]+|url)=\"?/", path.read_text()), path


def test_only_one_macro_formats_moments(project: Path) -> None:
    pattern = re.compile(r"<time|strftime|isoformat")
    templates = (project / "templates").rglob("*.html")
    assert [path.name for path in templates if pattern.search(path.read_text())] == ["_macros.html"]
