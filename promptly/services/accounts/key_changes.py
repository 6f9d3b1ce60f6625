"""Changes of a key by its owner or an operator: name, scope, and limits, as they enter them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from promptly.errors import NotFound
from promptly.models import ApiKey
from promptly.models.states import KeyScope
from promptly.services.accounts import accounts, key_limit_fields, key_limits, keys
from promptly.services.accounts.key_limits import KeyLimits
from promptly.services.audit import Operator

FIELDS = ("name", "scope", *key_limit_fields.FIELDS)


@dataclass(frozen=True)
class ChangedKey:
    """A key after a change; `entry_id` is that of the audit log, if an operator changed it."""

    name: str
    scope: KeyScope
    limits: KeyLimits
    entry_id: int | None = None


def find(user_id: int, key_id: int) -> ApiKey:
    """Return a key of an account; raises NotFound unless it is valid."""
    key = keys.find_active(key_id)
    if key is None or key.user_id != user_id:
        raise NotFound("There is no such active key.")
    return key


def change(
    user_id: int, key_id: int, entered: Mapping[str, str], *, operator: Operator | None = None
) -> ChangedKey:
    """Change what is entered of FIELDS; the rest stays. Locks the account.

    Raises NotFound unless the account has this key, and InvalidRequest with the name of a field.
    """
    accounts.lock(user_id)
    key = find(user_id, key_id)
    changes = key_limit_fields.parse(entered, key_limits.of(key))
    scope = keys.checked_scope(entered["scope"]) if "scope" in entered else None
    before: dict[str, Any] = dict(keys.change(user_id, key_id, entered.get("name"), scope))
    after: dict[str, Any] = {name: getattr(key, name) for name in before}
    was, limits = key_limits.set_limits(user_id, key_id, changes)
    now = limits.settings()
    for name, value in was.settings().items():
        if now[name] != value:
            before[name], after[name] = value, now[name]
    entry_id = None
    if operator is not None and before:
        entry_id = operator.record(
            "key.limit", user_id=user_id, subject=str(key_id), before=before, after=after
        )
    return ChangedKey(key.name, key.scope, limits, entry_id)
