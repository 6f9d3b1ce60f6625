"""Strict parsing of the form API's fields: an invalid one is a 400 that names the field."""

import re
from collections.abc import Iterable

from werkzeug.datastructures import MultiDict

from promptly.errors import InvalidRequest, NotFound
from promptly.models import User
from promptly.services.accounts import accounts, email_addresses

LARGEST_ID = 2**63 - 1

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_REFERENCE = re.compile(r"[!-~](?:[ -~]{0,98}[!-~])?", re.ASCII)

Form = MultiDict[str, str]


def refuse_duplicates(form: Form, names: Iterable[str]) -> None:
    """Raise InvalidRequest if one of these fields occurs twice, as it would be ambiguous."""
    for name in names:
        if len(form.getlist(name)) > 1:
            raise InvalidRequest(f"'{name}' was sent more than once.", param=name)


def integer(form: Form, name: str, least: int, most: int) -> int:
    """Parse a whole number; raise InvalidRequest if it is missing, malformed or out of range."""
    entered = form.get(name, "").strip()
    if not entered:
        raise InvalidRequest(f"'{name}' is missing.", param=name)
    if not _INTEGER.fullmatch(entered):
        raise InvalidRequest(f"'{name}' must be a whole number.", param=name)
    number = int(entered)
    if not least <= number <= most:
        raise InvalidRequest(f"'{name}' must be between {least} and {most}.", param=name)
    return number


def optional_integer(form: Form, name: str, least: int, most: int) -> int | None:
    """Parse a whole number as `integer` does; None if the field is empty or missing."""
    return integer(form, name, least, most) if form.get(name, "").strip() else None


def reference(form: Form) -> str | None:
    """Return the idempotency reference, if any; raise InvalidRequest if it is malformed."""
    entered = form.get("reference", "").strip()
    if not entered:
        return None
    if not _REFERENCE.fullmatch(entered):
        raise InvalidRequest(
            "'reference' must be at most 100 printable ASCII characters.", param="reference"
        )
    return entered


def account(form: Form) -> User:
    """Return the account that `user_id` or `email` identifies, or both together.

    Raises InvalidRequest if neither is given or they disagree, NotFound for an unknown account.
    """
    email = form.get("email", "").strip() or None
    if not form.get("user_id", "").strip():
        if email is None:
            raise InvalidRequest("Identify the account by 'user_id' or 'email'.", param="user_id")
        return accounts.find(email=email)
    user = accounts.find(user_id=integer(form, "user_id", 1, LARGEST_ID))
    if user.closed_at is not None:
        raise NotFound("There is no such account.")
    if email is not None and email_addresses.normalise(email) != user.email:
        raise InvalidRequest("'email' and 'user_id' identify different accounts.", param="email")
    return user
