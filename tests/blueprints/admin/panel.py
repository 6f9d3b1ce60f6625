"""A browser that is signed in to the panel, and what its pages and the audit log say."""

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
    """Pages as text, forms as a person posts them: with all their hidden fields."""

    def __init__(self, app: Flask, client: FlaskClient) -> None:
        self.app = app
        self.client = client

    def page(self, path: str, status: int = 200) -> str:
        """The markup of a page's main part."""
        answer = self.client.get(path)
        assert answer.status_code == status, (path, answer.status_code, words(answer.text))
        assert "<script>alert" not in answer.text and "<img src=x" not in answer.text
        # A path that is no route of the panel's has no page of it either.
        assert status == 404 or answer.headers["Cache-Control"] == "no-store"
        return answer.text.partition("<main")[2]

    def words(self, path: str, status: int = 200) -> str:
        """The same as a person reads it."""
        return words(self.page(path, status))

    def token(self) -> str:
        """A good form token of this session."""
        return self.form("/admin/holds", "/admin/session/end")["csrf_token"]

    def form(self, path: str, action: str | None = None) -> dict[str, str]:
        """The hidden fields of the form that posts to `action`, by default to the page itself."""
        self.page(path)
        page = self.client.get(path).text
        target = html.escape(action or path.partition("?")[0])
        [inside] = re.findall(
            rf'<form method="post" action="{re.escape(target)}">(.*?)</form>', page, re.DOTALL
        )
        return {name: html.unescape(value) for name, value in _INPUT.findall(inside)}

    def post(self, path: str, fields: dict[str, str], status: int = 303) -> str:
        """Post a form; where it leads, or the error's page in words."""
        answer = self.client.post(path, data=fields)
        assert answer.status_code == status, words(answer.text)
        return str(answer.location) if status == 303 else words(answer.text)

    def confirm(self, path: str, **more: str) -> str:
        """Answer the question on a page with its button; the page that follows, in words."""
        fields = self.form(path) | more
        return self.words(self.post(path.partition("?")[0], fields))

    def audited(self) -> list[tuple[str, int | None, str | None, Any, Any]]:
        """The acts since the session was opened, oldest first."""
        with self.app.app_context(), transaction():
            query = select(AuditEntry).where(~AuditEntry.action.startswith("session."))
            return [
                (row.action, row.user_id, row.subject, row.before, row.after)
                for row in db.session.scalars(query.order_by(AuditEntry.id))
            ]


def words(markup: str) -> str:
    """A page's text."""
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", markup).split()))
