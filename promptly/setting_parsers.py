"""Parsers of environment variables; each raises ValueError saying what the value must be."""

import csv
import ipaddress
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

from promptly.secret import Secret

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def text(value: str) -> str:
    return value.strip()


LONGEST_LINE = 200
MOST_LINES = 10


def line(value: str) -> str:
    value = value.strip()
    if len(value) > LONGEST_LINE or not value.isprintable():
        raise ValueError(f"must be one line of at most {LONGEST_LINE} characters")
    return value


def lines(value: str) -> tuple[str, ...]:
    r"""Parse lines that are separated by line breaks or by the two characters `\n`."""
    found = tuple(line(item) for item in value.replace("\\n", "\n").splitlines() if item.strip())
    if len(found) > MOST_LINES:
        raise ValueError(f"must have at most {MOST_LINES} lines")
    return found


LONGEST_MODEL_NAME = 256


def model_name(value: str) -> str:
    value = value.strip()
    if len(value) > LONGEST_MODEL_NAME or not value.isprintable():
        raise ValueError(f"must be a model's name of at most {LONGEST_MODEL_NAME} characters")
    return value


def model_aliases(value: str) -> Mapping[str, str]:
    """Parse `alias:model` pairs; models' names may contain colons, aliases may not."""
    found: dict[str, str] = {}
    for item in text_list(value):
        alias, _, model = (part.strip() for part in item.partition(":"))
        if not alias or not model:
            raise ValueError("must be a list such as alias:model,other-alias:model")
        if alias in found:
            raise ValueError(f"names the alias {alias[:100]} twice")
        found[model_name(alias)] = model_name(model)
    return MappingProxyType(found)


def secret(value: str) -> Secret:
    return Secret(value.strip())


def integer(minimum: int, maximum: int = 2**53) -> Callable[[str], int]:
    def parse(value: str) -> int:
        try:
            number = int(value.strip().replace("_", ""))
        except ValueError:
            raise ValueError("must be a whole number") from None
        if not minimum <= number <= maximum:
            raise ValueError(f"must lie between {minimum} and {maximum}")
        return number

    return parse


def boolean(value: str) -> bool:
    word = value.strip().lower()
    if word in {"1", "true", "yes", "on"}:
        return True
    if word in {"0", "false", "no", "off", ""}:
        return False
    raise ValueError("must be true or false")


def choice(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        word = value.strip().lower()
        if word not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return word

    return parse


def url(value: str) -> str:
    """Parse an http URL, which is also the server's name in logs, metrics and mails.

    So it may contain no password, which no client of ours would send.
    """
    value = value.strip().rstrip("/")
    if not _is_url(value, "http", "https"):
        raise ValueError("must be an http or https URL")
    if "@" in urlsplit(value).netloc:
        raise ValueError("must not contain a user name or password")
    return value


def _is_url(value: str, *schemes: str) -> bool:
    """Return whether this is a URL of a host.

    The errors of `urlsplit` quote the value, and with it perhaps a part of a password.
    """
    try:
        parts = urlsplit(value)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def url_list(value: str) -> tuple[str, ...]:
    urls = tuple(url(item) for item in value.split(",") if item.strip())
    if not urls:
        raise ValueError("must hold at least one URL")
    return urls


def optional_url_list(value: str) -> tuple[str, ...]:
    return url_list(value) if value.strip() else ()


def optional_url(value: str) -> str:
    return url(value) if value.strip() else ""


def optional_panel_url(value: str) -> str:
    address = optional_url(value)
    if address and not address.endswith("/admin"):
        raise ValueError("must end with /admin")
    return address


_MAIL_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}")


def optional_mail_address(value: str) -> str:
    value = value.strip()
    if value and not _MAIL_ADDRESS.fullmatch(value):
        raise ValueError("must be one email address, such as ops@example.com")
    return value


def origin_list(value: str) -> tuple[str, ...]:
    """Parse `*`, or origins in the spelling that browsers send."""
    items = text_list(value)
    if "*" in items:
        if len(items) > 1:
            raise ValueError("must be *, empty, or a list of origins")
        return items
    return tuple(_origin(item) for item in items)


# Browsers send the ASCII form of a host name (xn--…).
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


def _origin(value: str) -> str:
    value = value.lower().rstrip("/")
    if not _ORIGIN.fullmatch(value):
        raise ValueError("must be *, empty, or origins such as https://app.example.com")
    scheme = value.partition(":")[0]
    return value.removesuffix({"http": ":80", "https": ":443"}.get(scheme, ""))


def text_list(value: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in value.split(",") if item.strip())


def secret_list(value: str) -> tuple[Secret, ...]:
    return tuple(Secret(item) for item in text_list(value))


def network_list(value: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(item) for item in text_list(value))
    except ValueError as problem:
        raise ValueError(f"must be a list of networks: {problem}") from None


def database_url(value: str) -> str:
    value = value.strip()
    # Hosting platforms use the short scheme, which SQLAlchemy no longer accepts.
    if value.startswith("postgres://"):
        value = "postgresql://" + value.removeprefix("postgres://")
    if value.startswith("postgresql://"):
        value = "postgresql+psycopg2://" + value.removeprefix("postgresql://")
    if not value.startswith("postgresql+psycopg2://"):
        raise ValueError("must be a postgresql:// URL")
    if not _DATABASE.fullmatch(value):
        raise ValueError(f"has no valid host and port; {_ENCODE}")
    return value


# As SQLAlchemy reads it. Its errors quote the value, and psycopg's the host, so neither may get a
# URL in which a part of the password would be the host or the port.
_DATABASE = re.compile(
    r"postgresql\+psycopg2://([^:/]*(:[^@]*)?@)?(\[[^/?@]+\]|[^/:?@]+)?(:[0-9]{0,5})?([/?].*)?"
)
_ENCODE = "special characters of its password must be percent-encoded"


def redis_url(value: str) -> str:
    value = value.strip()
    if not value.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must be a redis://, rediss:// or unix:// URL")
    if not value.startswith("unix://") and not _is_url(value, "redis", "rediss"):
        raise ValueError(f"has no valid host and port; {_ENCODE}")
    return value


def long_secret(value: str) -> Secret:
    if len(value.strip()) < 32:
        raise ValueError("must have at least 32 characters")
    return Secret(value.strip())


def optional_long_secret(value: str) -> Secret:
    return long_secret(value) if value.strip() else Secret("")


def long_secret_list(value: str) -> tuple[Secret, ...]:
    """Split at commas, except within double quotes: an older value may contain commas."""
    try:
        items = next(csv.reader([value], skipinitialspace=True, strict=True), [])
    except csv.Error:
        raise ValueError('must be a comma-separated list; put a value with a comma in ""') from None
    return tuple(long_secret(item) for item in items if item.strip())
