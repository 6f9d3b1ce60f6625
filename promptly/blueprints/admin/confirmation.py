"""Confirmation pages: the target, the effects, and the button that posts the action."""

from dataclasses import dataclass, field

from flask import render_template, request

from promptly.errors import InvalidRequest


@dataclass(frozen=True)
class Confirmation:
    """An action to confirm; its button posts `fields` to `action`.

    `facts` describe the target, `effects` are sentences, `note` adds a field for a reason.
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
    return render_template("admin/confirm.html", question=question)


def require_account(user_id: int | None) -> None:
    """Raise InvalidRequest unless the form's `user_id` is this account's (empty if None)."""
    named = request.form.get("user_id", "")
    if named != ("" if user_id is None else str(user_id)):
        raise InvalidRequest(
            "This form is for a different account. Reload the page.", param="user_id"
        )


def note() -> str | None:
    """Return the reason entered, or None; raise InvalidRequest if it is too long."""
    entered = request.form.get("note", "").strip()
    if len(entered) > 500 or "\x00" in entered:
        raise InvalidRequest("The note may have at most 500 characters.", param="note")
    return entered or None
