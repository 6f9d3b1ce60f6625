"""The checks of `flask doctor`; each examines one subject and says how to fix it."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import redis
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import current_app
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from promptly.cli import (
    backup_checks,
    notification_checks,
    payment_checks,
    price_checks,
    proxy_checks,
    rotation_checks,
    session_checks,
    site_checks,
    trial_checks,
    upstream_checks,
)
from promptly.clients import smtp
from promptly.extensions import db
from promptly.runtime.database import POOL_SIZE_IN_ALL
from promptly.runtime.newer_schema import UnknownSchema, find_newer_revision
from promptly.runtime.redis_client import TIMEOUTS
from promptly.services.imports import schema
from promptly.services.mail import outbox
from promptly.settings import Settings

OLDEST_POSTGRESQL = 150000
# In addition to the web workers': Celery's processes, a few operator commands, psql.
OTHER_CONNECTIONS = 12
# During a deploy the old gateway and the new one run side by side.
GATEWAYS = 2


@dataclass(frozen=True)
class Finding:
    """A result of one check; `level` is ok, warning or error."""

    check: str
    level: str
    message: str


Check = Callable[[Settings], Iterator[Finding]]


def postgresql(settings: Settings) -> Iterator[Finding]:
    """Check version, connections, migrations, and emails that wait for SMTP_HOST."""
    try:
        version = int(db.session.scalar(text("SHOW server_version_num")) or 0)
        limit = int(db.session.scalar(text("SHOW max_connections")) or 0)
        # Suppress Alembic's informational lines in the output.
        logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)
        if schema.belongs_to_model_gateway(db.session.connection()):
            yield Finding("PostgreSQL", "error", schema.BELONGS_TO_MODEL_GATEWAY)
            return
        context = MigrationContext.configure(db.session.connection())
        migrations = _migrations(context)
        waiting = outbox.count("pending") if context.get_current_heads() else 0
        backup = list(backup_checks.findings()) if context.get_current_heads() else []
    except SQLAlchemyError as problem:
        reason = str(getattr(problem, "orig", problem)).strip().splitlines()[0]
        yield Finding("PostgreSQL", "error", f"query failed: {reason}; check DATABASE_URL")
        return
    if version < OLDEST_POSTGRESQL:
        yield Finding(
            "PostgreSQL", "error", f"version {version // 10000} is too old: use 15 or newer"
        )
    else:
        yield Finding("PostgreSQL", "ok", f"version {version // 10000}")
    yield _connections(settings, limit)
    for level, message in session_checks.findings(settings):
        yield Finding("Sessions", level, message)
    yield migrations
    if waiting and not settings.smtp_host:
        mails = "1 email is" if waiting == 1 else f"{waiting} emails are"
        yield Finding("Outbox", "warning", f"{mails} waiting: set SMTP_HOST")
    for level, message in backup:
        yield Finding("Backup", level, message)


def _migrations(context: MigrationContext) -> Finding:
    scripts = ScriptDirectory(current_app.extensions["migrate"].directory)
    if set(context.get_current_heads()) == set(scripts.get_heads()):
        return Finding("Migrations", "ok", "at head")
    try:
        newer = find_newer_revision(context, scripts, db.metadata)
    except UnknownSchema as problem:
        return Finding("Migrations", "error", str(problem))
    if newer is None:
        return Finding("Migrations", "error", "behind: run 'flask --app wsgi db upgrade'")
    return Finding("Migrations", "warning", f"{newer} is of a newer release; this one runs on it")


def _connections(settings: Settings, limit: int) -> Finding:
    wanted = GATEWAYS * settings.web_concurrency * POOL_SIZE_IN_ALL + OTHER_CONNECTIONS
    if session_checks.is_pooled():
        message = f"through a pooler, which must allow {wanted} of each machine during a deploy"
        return Finding("Connections", "ok", f"{message}; PostgreSQL allows {limit} of the pooler")
    figures = f"at most {wanted} used during a deploy, {limit} allowed"
    if wanted < limit:
        return Finding("Connections", "ok", figures)
    advice = "raise max_connections, lower WEB_CONCURRENCY or use PgBouncer"
    return Finding("Connections", "warning", f"{figures}: {advice}")


def redis_server(settings: Settings) -> Iterator[Finding]:
    """Check that Redis responds."""
    try:
        with redis.Redis.from_url(settings.redis_connection_url, **TIMEOUTS) as client:
            client.ping()
    except (redis.RedisError, OSError) as problem:
        reason = type(problem).__name__
        yield Finding(
            "Redis", "error", f"not responding ({reason}); check REDIS_URL and REDIS_PASSWORD"
        )
    else:
        yield Finding("Redis", "ok", "responding")


def http_parser(settings: Settings) -> Iterator[Finding]:
    """Check that the web workers parse HTTP in C."""
    if find_spec("gunicorn_h1c") is not None:
        yield Finding("HTTP parser", "ok", "gunicorn_h1c, written in C")
        return
    advice = "pip install -r requirements-fast.txt (needs a C compiler and Python's headers)"
    yield Finding("HTTP parser", "warning", f"gunicorn's own, slower one in Python: {advice}")


def drain(settings: Settings) -> Iterator[Finding]:
    """Check that the time for running requests is set by its present name."""
    if settings.graceful_timeout_seconds:
        message = f"is an older name: set DRAIN_SECONDS={settings.drain_seconds} instead"
        yield Finding("Drain", "warning", f"GRACEFUL_TIMEOUT_SECONDS {message}")


def upstreams(settings: Settings) -> Iterator[Finding]:
    """Check every model server, its models, and the configured names of models."""
    for subject, level, message in upstream_checks.findings(settings):
        yield Finding(subject, level, message)


def mail(settings: Settings) -> Iterator[Finding]:
    """Check that the mail server accepts our connection and credentials."""
    if not settings.smtp_host:
        yield Finding(
            "Mail", "warning", "SMTP_HOST is not set: no email is sent, not even with keys"
        )
        return
    try:
        smtp.check(settings)
    except smtp.MailNotSent as problem:
        advice = "check SMTP_HOST, SMTP_PORT, SMTP_TLS, SMTP_USER"
        yield Finding("Mail", "error", f"{problem.reason}; {advice}")
    else:
        yield Finding("Mail", "ok", f"connected to {settings.smtp_host}:{settings.smtp_port}")
    if settings.smtp_user and settings.smtp_tls == "none":
        yield Finding("Mail", "warning", "SMTP_PASSWORD is sent unencrypted: set SMTP_TLS=starttls")


def secrets(settings: Settings) -> Iterator[Finding]:
    """Check that the secrets are strong and distinct."""
    if settings.gateway_secret_key == settings.key_pepper:
        yield Finding("Secrets", "error", "GATEWAY_SECRET_KEY and KEY_PEPPER must differ")
    if settings.metrics_key in {settings.gateway_secret_key, settings.key_pepper}:
        yield Finding("Secrets", "error", "METRICS_KEY must differ from the other secrets")
    guarded = {
        "GATEWAY_SECRET_KEY": settings.gateway_secret_key,
        "KEY_PEPPER": settings.key_pepper,
        "METRICS_KEY": settings.metrics_key,
        "ADMIN_KEY": settings.admin_key,
        **{f"ADMIN_KEYS: the key of {item.name}": item.key for item in settings.admin_keys},
    }
    for name, secret in guarded.items():
        value = secret.reveal()
        if value and (len(value) < 24 or len(set(value)) < 10):
            advice = "is easy to guess: generate one with 'openssl rand -base64 32'"
            yield Finding("Secrets", "error", f"{name} {advice}")
    if not settings.keys_of_operators:
        message = "neither ADMIN_KEY nor ADMIN_KEYS is set: the admin panel is disabled"
        yield Finding("Secrets", "warning", message)


def rotation(settings: Settings) -> Iterator[Finding]:
    """Check which older secrets are still needed."""
    for level, message in rotation_checks.findings(settings):
        yield Finding("Rotation", level, message)


def administration(settings: Settings) -> Iterator[Finding]:
    """Check that the panel has an address filter and a key of its own."""
    open_to_all = [str(net) for net in settings.admin_allowed_cidrs if net.prefixlen == 0]
    if open_to_all and settings.keys_of_operators:
        message = "the panel is open to every address, protected only by its key"
        yield Finding(
            "Administration", "warning", f"ADMIN_ALLOWED_CIDRS contains {open_to_all[0]}: {message}"
        )
    others = {settings.gateway_secret_key, settings.key_pepper, settings.metrics_key}
    if others.intersection(settings.keys_of_operators.values()):
        yield Finding("Administration", "error", "admin keys must differ from the other secrets")


def public_site(settings: Settings) -> Iterator[Finding]:
    """Check the settings that a site on the internet needs."""
    for level, message in site_checks.findings(settings):
        yield Finding("Site", level, message)


def prices(settings: Settings) -> Iterator[Finding]:
    """Check that the prices in force are those of PRICES."""
    for level, message in price_checks.findings(settings):
        yield Finding("Prices", level, message)


def trial_abuse(settings: Settings) -> Iterator[Finding]:
    """Check what limits trials, and that all mailboxes that had one are recorded."""
    for level, message in trial_checks.findings(settings):
        yield Finding("Trials", level, message)


def proxies(settings: Settings) -> Iterator[Finding]:
    """Check that requests pass through as many proxies as configured."""
    for level, message in proxy_checks.findings(settings):
        yield Finding("Proxies", level, message)


def notifications(settings: Settings) -> Iterator[Finding]:
    """Check that alerts reach the operator, and that customers see an address that answers."""
    for level, message in notification_checks.findings(settings):
        yield Finding("Notifications", level, message)


def payments(settings: Settings) -> Iterator[Finding]:
    """Check the payment providers, and report what needs the operator."""
    for level, message in payment_checks.findings(settings):
        yield Finding("Payments", level, message)


CHECKS: tuple[Check, ...] = (
    postgresql,
    redis_server,
    http_parser,
    drain,
    upstreams,
    mail,
    notifications,
    payments,
    secrets,
    rotation,
    administration,
    public_site,
    prices,
    trial_abuse,
    proxies,
)
