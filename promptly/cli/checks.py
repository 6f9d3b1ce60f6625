"""What `flask doctor` looks at: each check asks one thing and says what to do about it."""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import urlsplit

import redis
import urllib3
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import current_app
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from promptly.cli import payment_checks, proxy_checks
from promptly.clients import smtp
from promptly.extensions import db
from promptly.runtime.database import HOT_POOL_SIZE, engine_options
from promptly.runtime.redis_client import TIMEOUTS
from promptly.secret import Secret
from promptly.services.mail import outbox
from promptly.settings import Settings

OLDEST_POSTGRESQL = 150000
UPSTREAM_TIMEOUT = urllib3.Timeout(connect=3, read=5)
# Beside the web workers': Celery's processes, an operator's command or two, a look with psql.
OTHER_CONNECTIONS = 12


@dataclass(frozen=True)
class Finding:
    """What one check found; `level` is ok, warning or error."""

    check: str
    level: str
    message: str


Check = Callable[[Settings], Iterator[Finding]]


def postgresql(settings: Settings) -> Iterator[Finding]:
    """Version, connections, migrations."""
    try:
        version = int(db.session.scalar(text("SHOW server_version_num")) or 0)
        limit = int(db.session.scalar(text("SHOW max_connections")) or 0)
        # It tells what it does, which nobody here has asked for.
        logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)
        context = MigrationContext.configure(db.session.connection())
        present = set(context.get_current_heads())
        waiting = outbox.count_waiting() if present else 0
    except SQLAlchemyError as problem:
        reason = str(getattr(problem, "orig", problem)).strip().splitlines()[0]
        yield Finding("PostgreSQL", "error", f"cannot be asked: {reason}; look at DATABASE_URL")
        return
    if version < OLDEST_POSTGRESQL:
        yield Finding(
            "PostgreSQL", "error", f"version {version // 10000} is too old: use 15 or newer"
        )
    else:
        yield Finding("PostgreSQL", "ok", f"version {version // 10000}")
    yield _connections(settings, limit)
    newest = set(ScriptDirectory(current_app.extensions["migrate"].directory).get_heads())
    if present == newest:
        yield Finding("Migrations", "ok", "at head")
    else:
        yield Finding("Migrations", "error", "behind: run 'flask --app wsgi db upgrade'")
    if waiting and not settings.smtp_host:
        yield Finding("Outbox", "warning", f"{waiting} mails wait for SMTP_HOST to be set")


def _connections(settings: Settings, limit: int) -> Finding:
    pages = engine_options(settings)
    each = HOT_POOL_SIZE + int(pages["pool_size"]) + int(pages["max_overflow"])
    wanted = settings.web_concurrency * each + OTHER_CONNECTIONS
    told = f"at most {wanted} used, {limit} allowed"
    if wanted < limit:
        return Finding("Connections", "ok", told)
    advice = "raise max_connections, lower WEB_CONCURRENCY or use PgBouncer"
    return Finding("Connections", "warning", f"{told}: {advice}")


def redis_server(settings: Settings) -> Iterator[Finding]:
    """Whether Redis answers."""
    try:
        with redis.Redis.from_url(settings.redis_url, **TIMEOUTS) as client:
            client.ping()
    except (redis.RedisError, OSError) as problem:
        reason = type(problem).__name__
        yield Finding("Redis", "error", f"does not answer ({reason}); look at REDIS_URL")
    else:
        yield Finding("Redis", "ok", "answers")


def http_parser(settings: Settings) -> Iterator[Finding]:
    """Whether the web workers parse requests in C."""
    if find_spec("gunicorn_h1c") is not None:
        yield Finding("HTTP parser", "ok", "gunicorn_h1c, in C")
        return
    advice = "pip install -r requirements-fast.txt (needs a C compiler and Python's headers)"
    yield Finding("HTTP parser", "warning", f"gunicorn's own, in Python, which is slower: {advice}")


def upstreams(settings: Settings) -> Iterator[Finding]:
    """Health and properties of every llama-server."""
    headers = {}
    if settings.llama_api_key:
        headers["Authorization"] = f"Bearer {settings.llama_api_key.reveal()}"
    with urllib3.PoolManager(retries=False, timeout=UPSTREAM_TIMEOUT, headers=headers) as http:
        for url in (*settings.llama_base_url, *settings.llama_embeddings_base_url):
            yield _upstream(http, url)


def _upstream(http: urllib3.PoolManager, url: str) -> Finding:
    name = f"Upstream {urlsplit(url).netloc}"
    try:
        health = http.request("GET", f"{url}/health")
        if health.status != 200:
            return Finding(name, "warning", f"not ready: /health says {health.status}")
        properties = http.request("GET", f"{url}/props")
        known = properties.json() if properties.status == 200 else {}
    except (urllib3.exceptions.HTTPError, ValueError) as problem:
        reason = type(problem).__name__
        return Finding(name, "error", f"does not answer ({reason}); look at LLAMA_BASE_URL")
    if properties.status in {401, 403}:
        return Finding(name, "error", "refuses the key: look at LLAMA_API_KEY")
    context = known.get("default_generation_settings", {}).get("n_ctx", "unknown")
    return Finding(name, "ok", f"{known.get('total_slots', '?')} slots, context {context}")


def mail(settings: Settings) -> Iterator[Finding]:
    """Whether the mail server lets us in."""
    if not settings.smtp_host:
        yield Finding("Mail", "warning", "SMTP_HOST is not set: keys are not mailed, mail waits")
        return
    try:
        smtp.check(settings)
    except smtp.MailNotSent as problem:
        advice = "look at SMTP_HOST, SMTP_PORT, SMTP_TLS, SMTP_USER"
        yield Finding("Mail", "error", f"{problem.reason}; {advice}")
    else:
        yield Finding("Mail", "ok", f"{settings.smtp_host}:{settings.smtp_port} lets us in")
    if settings.smtp_user and settings.smtp_tls == "none":
        yield Finding("Mail", "warning", "SMTP_PASSWORD travels unencrypted: set SMTP_TLS=starttls")


def secrets(settings: Settings) -> Iterator[Finding]:
    """Whether the secrets are strong, and different."""
    if settings.gateway_secret_key == settings.key_pepper:
        yield Finding("Secrets", "error", "GATEWAY_SECRET_KEY and KEY_PEPPER must differ")
    for name in ("gateway_secret_key", "key_pepper", "admin_key"):
        secret: Secret = getattr(settings, name)
        value = secret.reveal()
        if value and (len(value) < 24 or len(set(value)) < 10):
            advice = "is easy to guess: make one with 'openssl rand -base64 32'"
            yield Finding("Secrets", "error", f"{name.upper()} {advice}")
    if not settings.admin_key:
        yield Finding("Secrets", "warning", "ADMIN_KEY is not set: the admin panel is closed")


def administration(settings: Settings) -> Iterator[Finding]:
    """Whether the panel's first layer keeps anybody out."""
    open_to_all = [str(net) for net in settings.admin_allowed_cidrs if net.prefixlen == 0]
    if open_to_all and settings.admin_key:
        message = "the panel is open to every address, and only its key guards it"
        yield Finding(
            "Administration", "warning", f"ADMIN_ALLOWED_CIDRS has {open_to_all[0]}: {message}"
        )
    if settings.admin_key in {settings.gateway_secret_key, settings.key_pepper}:
        yield Finding("Administration", "error", "ADMIN_KEY must differ from the other secrets")


def public_site(settings: Settings) -> Iterator[Finding]:
    """What a site on the internet should have set."""
    base = urlsplit(settings.base_url)
    if base.hostname in {"127.0.0.1", "localhost", "::1"}:
        yield Finding("Site", "warning", "BASE_URL is local: links in mails work only here")
        return
    if base.scheme != "https":
        yield Finding("Site", "warning", "BASE_URL is not https: keys travel unencrypted")
    if not settings.key_reissue_confirm:
        message = "whoever knows an address can make its owner fetch a new key"
        yield Finding("Site", "warning", f"{message}: set KEY_REISSUE_CONFIRM=true")
    if not settings.trusted_hosts:
        yield Finding("Site", "warning", f"TRUSTED_HOSTS is not set: name {base.hostname} there")
    if settings.trusted_proxy_hops == 0 and base.scheme == "https":
        message = "TRUSTED_PROXY_HOPS is 0, yet https needs a proxy: set how many there are"
        yield Finding("Site", "warning", message)
    if os.environ.get("FLASK_DEBUG") not in {None, "", "0"}:
        yield Finding("Site", "error", "FLASK_DEBUG is on: unset it")


def proxies(settings: Settings) -> Iterator[Finding]:
    """Whether requests come through as many proxies as the setting says."""
    for level, message in proxy_checks.findings(settings):
        yield Finding("Proxies", level, message)


def payments(settings: Settings) -> Iterator[Finding]:
    """The payment providers, and what waits for the operator."""
    for level, message in payment_checks.findings(settings):
        yield Finding("Payments", level, message)


CHECKS: tuple[Check, ...] = (
    postgresql,
    redis_server,
    http_parser,
    upstreams,
    mail,
    payments,
    secrets,
    administration,
    public_site,
    proxies,
)
