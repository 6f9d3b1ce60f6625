"""Check older secrets: which of them are still needed, and which keys none of them opens."""

from collections.abc import Iterator

from sqlalchemy.exc import SQLAlchemyError

from promptly.services.accounts import key_format, peppers
from promptly.setting_fields import SettingsError
from promptly.settings import Settings

SESSION_DAYS = 30


def findings(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield pairs of level and message."""
    try:
        # Before its first start nothing is recorded, and a check does not do so.
        if versions := peppers.known():
            peppers.mailbox_key(peppers.SessionDatabase(), settings)
            yield from _peppers(settings, versions)
    except SettingsError as error:
        yield from (("error", problem) for problem in error.problems)
    except SQLAlchemyError:
        # Another check reports it.
        return
    if settings.gateway_secret_key_previous:
        yield (
            "ok",
            f"GATEWAY_SECRET_KEY_PREVIOUS can be dropped {SESSION_DAYS} days after it was in force:"
            " sessions end by then",
        )


def _peppers(settings: Settings, versions: dict[bytes, int]) -> Iterator[tuple[str, str]]:
    keys = peppers.count_active_keys()
    keys.pop(key_format.IMPORTED_VERSION, None)
    keys.pop(versions.get(peppers.fingerprint(settings.key_pepper), 0), None)
    for number, pepper in enumerate(settings.key_pepper_previous, start=1):
        name = f"value {number} of KEY_PEPPER_PREVIOUS"
        version = versions.get(peppers.fingerprint(pepper))
        if version is None:
            yield "ok", f"{name} was never in force; it may be once all processes know it"
        elif used := keys.pop(version, 0):
            yield "ok", f"{_keys(used)} not been used since {name} was in force, and need it"
        elif version == peppers.FIRST_VERSION and not settings.mailbox_pepper:
            yield (
                "warning",
                f"no active key needs {name}, but mailboxes do: set MAILBOX_PEPPER to it",
            )
        else:
            yield "ok", f"no active key needs {name}: it can be dropped"
    if lost := sum(keys.values()):
        yield (
            "error",
            f"{_keys(lost)} been hashed with a pepper that is neither KEY_PEPPER nor in"
            " KEY_PEPPER_PREVIOUS, and are refused: add it there",
        )


def _keys(count: int) -> str:
    return "1 active key has" if count == 1 else f"{count} active keys have"
