"""Check migrations: upgrade an empty, temporary PostgreSQL and compare it with the models."""

import sys
import tempfile
from pathlib import Path

import flask_migrate

from promptly.app import create_app
from promptly.settings import Settings
from sandbox.postgres import EmbeddedPostgres

PROJECT = Path(__file__).parent.parent


def check(database_url: str) -> None:
    """Upgrade the database to head; exit with 1 if the models need another migration."""
    settings = Settings.from_mapping(
        {
            "DATABASE_URL": database_url,
            # Required settings; the check never connects to these.
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
    """Run the check and return the exit code."""
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
