"""Limits of a key as people enter them, on pages, in commands and in the form API.

Every field is text. An empty one, or `none`, takes the limit away.
"""

import ipaddress
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta

from promptly.clock import utcnow
from promptly.errors import InvalidRequest
from promptly.models.states import CapPeriod
from promptly.services.accounts.key_limits import (
    MOST_CAP_TOKENS,
    MOST_CONCURRENT_REQUESTS,
    KeyLimitChanges,
    KeyLimits,
)

FIELDS = ("expires", "models", "addresses", "cap", "per", "concurrency")

MOST_ENTRIES = 20
LONGEST_MODEL_NAME = 200
NONE = frozenset({"", "none", "never", "all"})

_SEPARATORS = re.compile(r"[\s,;]+")
_DIGITS = re.compile(r"[0-9]{1,19}", re.ASCII)


def parse(entered: Mapping[str, str], current: KeyLimits | None = None) -> KeyLimitChanges:
    """Return the limits that are entered; those that are missing stay as they are.

    A cap without a period keeps the `current` one. Raises InvalidRequest with the field's name.
    """
    changes: KeyLimitChanges = {}
    if "expires" in entered:
        kept = None if current is None else current.expires_at
        changes["expires_at"] = expiry(entered["expires"], kept)
    if "models" in entered:
        changes["allowed_models"] = models(entered["models"])
    if "addresses" in entered:
        changes["allowed_addresses"] = addresses(entered["addresses"])
    if "concurrency" in entered:
        changes["concurrent_requests"] = _number(
            entered["concurrency"], "concurrency", MOST_CONCURRENT_REQUESTS
        )
    if "cap" in entered or "per" in entered:
        tokens = None if current is None else current.cap_tokens
        if "cap" in entered:
            tokens = _number(entered["cap"], "cap", MOST_CAP_TOKENS)
        changes["cap_tokens"] = tokens
        changes["cap_period"] = None if tokens is None else _period(entered.get("per"), current)
    return changes


def as_entered(limits: KeyLimits) -> dict[str, str]:
    """Return limits as the text that `parse` would take them from."""
    numbers = (limits.concurrent_requests, limits.cap_tokens)
    concurrency, cap = ("" if number is None else str(number) for number in numbers)
    return {
        "expires": _moment(limits.expires_at),
        "models": ", ".join(limits.allowed_models or ()),
        "addresses": ", ".join(limits.allowed_addresses or ()),
        "cap": cap,
        "per": str(limits.cap_period or CapPeriod.MONTH),
        "concurrency": concurrency,
    }


def _moment(moment: datetime | None) -> str:
    if moment is None:
        return ""
    if moment.time() == time():
        return f"{moment - timedelta(days=1):%Y-%m-%d}"
    return f"{moment:%Y-%m-%dT%H:%M:%S}Z".replace(":00Z", "Z")


def expiry(text: str, kept: datetime | None = None) -> datetime | None:
    """Return the moment from which a key is refused; the end of the day for a date, in UTC.

    Raises InvalidRequest (param `expires`) for anything but a date, a date and time, or nothing,
    and for a moment that has passed, unless it is the one that is `kept`.
    """
    text = text.strip()
    if text.lower() in NONE:
        return None
    try:
        if len(text) == len("2026-12-31"):
            moment = datetime.combine(date.fromisoformat(text), time(), UTC) + timedelta(days=1)
        else:
            moment = datetime.fromisoformat(text)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest(
            "'expires' must be a date such as 2027-01-31, or a date and time such as "
            "2027-01-31T18:00Z.",
            param="expires",
        ) from None
    if moment <= utcnow() and moment != kept:
        raise InvalidRequest("'expires' lies in the past: revoke the key.", param="expires")
    return moment


def models(text: str) -> list[str] | None:
    """Return the names of models, separated by commas or spaces; None for all models.

    A name need not be known yet: its server may be away. Raises InvalidRequest (param `models`).
    """
    names = _entries(text, "models")
    for name in names or ():
        if len(name) > LONGEST_MODEL_NAME or not name.isprintable():
            raise InvalidRequest("'models' holds a name that is not one.", param="models")
    return names


def addresses(text: str) -> list[str] | None:
    """Return networks in CIDR notation, separated by commas or spaces; None for all addresses.

    Raises InvalidRequest (param `addresses`) for anything but addresses and networks, and for a
    network with bits of a host.
    """
    entries = _entries(text, "addresses")
    if entries is None:
        return None
    return list(dict.fromkeys(_network(entry) for entry in entries))


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise InvalidRequest(
            f"'addresses' holds '{text[:60]}', which is neither an address nor a network such as "
            "192.0.2.0/24 or 2001:db8::/32.",
            param="addresses",
        ) from None
    raise InvalidRequest(
        f"'addresses' holds '{text[:60]}', an address within a network. Do you mean {meant}?",
        param="addresses",
    )


def _entries(text: str, field: str) -> list[str] | None:
    if text.strip().lower() in NONE:
        return None
    found = list(dict.fromkeys(entry for entry in _SEPARATORS.split(text) if entry))
    if len(found) > MOST_ENTRIES:
        raise InvalidRequest(f"'{field}' may hold {MOST_ENTRIES} entries.", param=field)
    return found or None


def _number(text: str, field: str, most: int) -> int | None:
    text = text.strip().lower()
    if text in NONE:
        return None
    # As people group digits: 1,000,000 or 1_000_000.
    digits = re.sub(r"[,_ ]", "", text)
    if not _DIGITS.fullmatch(digits) or not 1 <= int(digits) <= most:
        raise InvalidRequest(
            f"'{field}' must be a whole number from 1 to {most:,}, or empty.", param=field
        )
    return int(digits)


def _period(text: str | None, current: KeyLimits | None) -> CapPeriod:
    if text is None and current is not None and current.cap_period is not None:
        return current.cap_period
    try:
        return CapPeriod((text or "").strip().lower())
    except ValueError:
        known = ", ".join(CapPeriod)
        raise InvalidRequest(f"'per' is one of {known}.", param="per") from None
