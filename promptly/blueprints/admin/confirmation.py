"""The page before an act that cannot be undone: what will happen, to what, and whose it is."""

from dataclasses import dataclass, field

from flask import render_template, request

from promptly.errors import InvalidRequest


@dataclass(frozen=True)
class Confirmation:
    """One act to be confirmed; its button posts `fields` to `action`.

    `facts` name what it is done to, `effects` are sentences, `note` offers a line for a reason.
    """

    title: str
    facts: list[tuple[str, str]]
    effects: list[str]
    action: str
    button: str
    back: str
    user_id: int | None = None
    fields: dict[str, str] = field(default_factory=dict)
    note: bool = False
    danger: bool = True


def ask(question: Confirmation) -> str:
    """The page with the question."""
    return render_template("admin/confirm.html", question=question)


def require_account(user_id: int | None) -> None:
    """Raise InvalidRequest unless the form names the account that it acts on, or none if none."""
    named = request.form.get("user_id", "")
    if named != ("" if user_id is None else str(user_id)):
        raise InvalidRequest("The form names another account: look again.", param="user_id")


def note() -> str | None:
    """The reason that was entered."""
    entered = request.form.get("note", "").strip()
    if len(entered) > 500 or "\x00" in entered:
        raise InvalidRequest("The note is too long: 500 characters at most.", param="note")
    return entered or None
