"""Migrations in step: upgrades an empty throw-away PostgreSQL, then compares it with the models."""

import sys
import tempfile
from pathlib import Path

import flask_migrate

from promptly.app import create_app
from promptly.settings import Settings
from sandbox.postgres import EmbeddedPostgres

PROJECT = Path(__file__).parent.parent


def check(database_url: str) -> None:
    """Upgrade the database to head; exits with 1 if a migration for the models is missing."""
    settings = Settings.from_mapping(
        {
            "DATABASE_URL": database_url,
            # Named because they must be; nothing of this is ever asked.
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "LLAMA_BASE_URL": "http://127.0.0.1:1",
            "GATEWAY_SECRET_KEY": "only-for-this-check-0123456789abcdef",
            "KEY_PEPPER": "only-for-this-check-too-0123456789ab",
            "LOG_LEVEL": "warning",
        }
    )
    app = create_app(settings)
    with app.app_context():
        flask_migrate.upgrade(directory=str(PROJECT / "migrations"))
        flask_migrate.check(directory=str(PROJECT / "migrations"))
        for engine in app.extensions["sqlalchemy"].engines.values():
            engine.dispose()


def main() -> int:
    """Returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="promptly-migrations-") as directory:
        server = EmbeddedPostgres(Path(directory) / "postgres", durable=False)
        try:
            server.start()
            check(server.create_database("promptly"))
        finally:
            server.stop()
    sys.stdout.write("migrations and models agree\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
