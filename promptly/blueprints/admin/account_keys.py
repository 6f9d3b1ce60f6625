"""Change an account's keys: batch or not; revoke one, or all with a new one sent by email."""

from flask import redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from promptly.blueprints.admin import actor, confirmation
from promptly.blueprints.admin.account_confirmations import good_key
from promptly.errors import NotFound
from promptly.services.accounts import accounts, keys
from promptly.transactions import transaction


def revoke(user_id: int, key_id: int) -> AnyResponse:
    confirmation.require_account(user_id)
    with transaction():
        accounts.lock(user_id)
        key = good_key(user_id, key_id)
        prefix = key.prefix
        keys.revoke(user_id, key_id)
        entry_id = actor.record(
            "key.revoke", user_id=user_id, subject=str(key_id), before={"prefix": prefix}
        )
    return redirect(url_for("admin.user", user_id=user_id, act=entry_id), 303)


def set_batch(user_id: int, key_id: int) -> AnyResponse:
    """Let the requests of a key yield to all others if the form has `batch`, else not."""
    confirmation.require_account(user_id)
    batch = "batch" in request.form
    with transaction():
        accounts.lock(user_id)
        good_key(user_id, key_id)
        before = keys.set_batch(user_id, key_id, batch)
        entry_id = actor.record(
            "key.batch",
            user_id=user_id,
            subject=str(key_id),
            before={"batch": before},
            after={"batch": batch},
        )
    return redirect(url_for("admin.user", user_id=user_id, act=entry_id), 303)


def reissue(user_id: int) -> AnyResponse:
    """Revoke every key of an account and email it a new one."""
    confirmation.require_account(user_id)
    with transaction():
        user = accounts.find(user_id=user_id)
        if user.closed_at is not None:
            raise NotFound("This account is being deleted.")
        active = len(keys.list_active(user_id))
        accounts.reissue(user)
        entry_id = actor.record("key.reissue", user_id=user_id, before={"active_keys": active})
    return redirect(url_for("admin.user", user_id=user_id, act=entry_id), 303)
