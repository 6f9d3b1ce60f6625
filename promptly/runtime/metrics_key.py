"""METRICS_KEY: it lets Prometheus read metrics from any address."""

from collections.abc import Mapping
from typing import Any

from promptly.secret import Secret


def has_key(environ: Mapping[str, Any], key: Secret) -> bool:
    """Return whether a WSGI request carries the key as a bearer token; False if none is set."""
    scheme, _, presented = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
    return bool(key) and scheme.lower() == "bearer" and Secret(presented.strip()) == key
