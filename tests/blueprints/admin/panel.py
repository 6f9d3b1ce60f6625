"""A client signed in to the panel that reads its pages and the audit log."""

import html
import re
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from promptly.extensions import db
from promptly.models import AuditEntry
from promptly.transactions import transaction

XSS = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
_INPUT = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')


class Panel:
    """Read pages as text; post forms with all their hidden fields, like a browser."""

    def __init__(self, app: Flask, client: FlaskClient) -> None:
        self.app = app
        self.client = client

    def page(self, path: str, status: int = 200) -> str:
        """Return the markup from the page's `<main>` on."""
        answer = self.client.get(path)
        assert answer.status_code == status, (path, answer.status_code, words(answer.text))
        assert "<script>alert" not in answer.text and "<img src=x" not in answer.text
        # Unknown paths may miss the panel's routes and thus its headers.
        assert status == 404 or answer.headers["Cache-Control"] == "no-store"
        return answer.text.partition("<main")[2]

    def words(self, path: str, status: int = 200) -> str:
        """Return the text of a page's main part."""
        return words(self.page(path, status))

    def token(self) -> str:
        """Return a valid CSRF token of this session."""
        return self.form("/admin/holds", "/admin/session/end")["csrf_token"]

    def form(self, path: str, action: str | None = None) -> dict[str, str]:
        """Return the hidden fields of the form that posts to `action`, by default to the page."""
        self.page(path)
        page = self.client.get(path).text
        target = html.escape(action or path.partition("?")[0])
        [inside] = re.findall(
            rf'<form method="post" action="{re.escape(target)}">(.*?)</form>', page, re.DOTALL
        )
        return {name: html.unescape(value) for name, value in _INPUT.findall(inside)}

    def post(self, path: str, fields: dict[str, str], status: int = 303) -> str:
        """Post a form; return the redirect's location, or the text of the error page."""
        answer = self.client.post(path, data=fields)
        assert answer.status_code == status, words(answer.text)
        return str(answer.location) if status == 303 else words(answer.text)

    def confirm(self, path: str, **more: str) -> str:
        """Submit the confirmation form of a page; return the text of the page that follows."""
        fields = self.form(path) | more
        return self.words(self.post(path.partition("?")[0], fields))

    def audited(self) -> list[tuple[str, int | None, str | None, Any, Any]]:
        """Return the audited actions other than those on sessions, oldest first."""
        with self.app.app_context(), transaction():
            query = select(AuditEntry).where(~AuditEntry.action.startswith("session."))
            return [
                (row.action, row.user_id, row.subject, row.before, row.after)
                for row in db.session.scalars(query.order_by(AuditEntry.id))
            ]


def words(markup: str) -> str:
    """Return the text of markup, without tags and with collapsed whitespace."""
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", markup).split()))
