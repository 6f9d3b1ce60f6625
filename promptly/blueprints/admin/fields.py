"""Fields of the form API, read strictly: what is wrong is answered 400 with the field's name."""

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
    """Raise InvalidRequest if one of these fields comes twice: nobody could say which counts."""
    for name in names:
        if len(form.getlist(name)) > 1:
            raise InvalidRequest(f"'{name}' was sent more than once.", param=name)


def integer(form: Form, name: str, least: int, most: int) -> int:
    """A whole number; raises InvalidRequest."""
    entered = form.get(name, "").strip()
    if not entered:
        raise InvalidRequest(f"'{name}' is missing.", param=name)
    if not _INTEGER.fullmatch(entered):
        raise InvalidRequest(f"'{name}' must be a whole number.", param=name)
    number = int(entered)
    if not least <= number <= most:
        raise InvalidRequest(f"'{name}' must lie between {least} and {most}.", param=name)
    return number


def reference(form: Form) -> str | None:
    """What makes an act happen once, if it was given; raises InvalidRequest."""
    entered = form.get("reference", "").strip()
    if not entered:
        return None
    if not _REFERENCE.fullmatch(entered):
        raise InvalidRequest(
            "'reference' must be at most 100 printable ASCII characters.", param="reference"
        )
    return entered


def account(form: Form) -> User:
    """The account that `user_id` or `email` names, or both alike.

    Raises InvalidRequest, and NotFound.
    """
    email = form.get("email", "").strip() or None
    if not form.get("user_id", "").strip():
        if email is None:
            raise InvalidRequest("Name the account by 'user_id' or 'email'.", param="user_id")
        return accounts.find(email=email)
    user = accounts.find(user_id=integer(form, "user_id", 1, LARGEST_ID))
    if user.closed_at is not None:
        raise NotFound("There is no such account.")
    if email is not None and email_addresses.normalise(email) != user.email:
        raise InvalidRequest("'email' and 'user_id' name different accounts.", param="email")
    return user
