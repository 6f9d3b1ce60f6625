"""The application factory."""

from datetime import timedelta

from flask import Flask

from promptly import blueprints, cli, pseudonyms
from promptly.extensions import csrf, db, limiter, migrate
from promptly.gateway import bind_gateway
from promptly.runtime import database, logs, redis_client
from promptly.runtime.celery_app import bind_celery
from promptly.settings import Settings


def create_app(settings: Settings) -> Flask:
    """Build the application for these settings; opens no connection yet."""
    # blueprints.static_files serves the static files.
    app = Flask("promptly", template_folder="../templates", static_folder=None)
    app.extensions["settings"] = settings
    app.config.from_mapping(flask_configuration(settings))

    logs.configure(settings.log_level)
    database.configure(app, settings)
    redis_client.configure(app, settings)
    db.init_app(app)
    migrate.init_app(app, db, directory="migrations")
    pseudonyms.configure(app, settings)
    limiter.init_app(app)
    csrf.init_app(app)
    bind_celery(app, settings)
    bind_gateway(app, settings)
    blueprints.register(app)
    cli.register(app)
    return app


def flask_configuration(settings: Settings) -> dict[str, object]:
    """Map the settings to the configuration of Flask and its extensions."""
    return {
        "SECRET_KEY": settings.gateway_secret_key.reveal(),
        "SECRET_KEY_FALLBACKS": [key.reveal() for key in settings.gateway_secret_key_previous],
        # Flask-WTF does not know the fallbacks; itsdangerous takes all keys in one list.
        "WTF_CSRF_SECRET_KEY": settings.signing_keys,
        # For webhooks: forms are smaller, and the gateway bounds the bodies of /v1 itself.
        "MAX_CONTENT_LENGTH": 256 * 1024,
        "PERMANENT_SESSION_LIFETIME": timedelta(days=30),
        "SESSION_COOKIE_NAME": "promptly_session",
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        **database.flask_configuration(settings),
        # Page blueprints call `csrf.protect()` themselves; /v1 skips the check and its cost.
        "WTF_CSRF_CHECK_DEFAULT": False,
        # Over https this would refuse forms without Referer; `refuse_foreign_posts` compares it, or
        # Origin, with our host.
        "WTF_CSRF_SSL_STRICT": False,
        "RATELIMIT_STORAGE_URI": redis_client.limiter_uri(settings.redis_connection_url),
        "RATELIMIT_STORAGE_OPTIONS": redis_client.limiter_options(settings.redis_connection_url),
        "RATELIMIT_STRATEGY": "sliding-window-counter",
        "RATELIMIT_IN_MEMORY_FALLBACK_ENABLED": True,
        "RATELIMIT_KEY_PREFIX": "promptly",
    }
