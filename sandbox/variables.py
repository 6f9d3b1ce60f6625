"""The variables of ``make run``: configured ones, generated ones, and where these are stored."""

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path

from dotenv import dotenv_values

from promptly.settings import Settings


def _new_secret() -> str:
    return secrets.token_urlsafe(36)


# The product's own secrets, with the generator of each.
SECRETS: Mapping[str, Callable[[], str]] = dict.fromkeys(
    ("GATEWAY_SECRET_KEY", "KEY_PEPPER", "ADMIN_KEY"), _new_secret
)

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def setting_names() -> list[str]:
    """Return the names of all variables promptly reads."""
    return [field.name.upper() for field in fields(Settings)]


def configured(directory: Path) -> dict[str, str]:
    """Return the values of the folder's ``.env``, overridden by the environment; empty is unset."""
    found = dotenv_values(directory / ".env", interpolate=False)
    values = {name: value for name, value in found.items() if value}
    values.update({name: os.environ[name] for name in setting_names() if os.environ.get(name)})
    return values


def kept_secrets(file: Path, wanted: Mapping[str, Callable[[], str]] = SECRETS) -> dict[str, str]:
    """Return the secrets stored in a file, after generating those that are missing."""
    kept = {name: value for name, value in dotenv_values(file).items() if value}
    missing = [name for name in wanted if name not in kept]
    if missing:
        kept.update({name: wanted[name]() for name in missing})
        write_private(file, kept)
    return kept


def write_private(file: Path, values: Mapping[str, str]) -> None:
    """Write a dotenv file that only its owner can read, replacing it atomically."""
    partial = file.with_suffix(".part")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
        for name, value in values.items():
            quoted = value.replace("\\", "\\\\").replace("'", "\\'")
            output.write(f"{name}='{quoted}'\n")
    partial.rename(file)


def child_environment() -> dict[str, str]:
    """Return the environment for the product's processes.

    It has no empty settings, which would hide the embedded ones; it forces UTF-8 whatever the
    locale; and it bypasses any proxy for the stand-ins on this machine.
    """
    names = set(setting_names())
    kept = {name: value for name, value in os.environ.items() if value or name not in names}
    no_proxy = ",".join(filter(None, [kept.get("no_proxy") or kept.get("NO_PROXY"), *LOOPBACK]))
    return kept | {"PYTHONUTF8": "1", "no_proxy": no_proxy, "NO_PROXY": no_proxy}
