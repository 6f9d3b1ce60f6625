"""The edge: blueprints, each guarding its own routes."""

from flask import Flask

from promptly.blueprints import (
    admin,
    docs,
    error_handlers,
    openapi,
    ops,
    purchases,
    site,
    v1,
    webhooks,
)


def register(app: Flask) -> None:
    """Put every blueprint and the error handlers on the application."""
    app.register_blueprint(docs.blueprint)
    app.register_blueprint(openapi.blueprint)
    app.register_blueprint(ops.blueprint)
    app.register_blueprint(v1.blueprint)
    app.register_blueprint(site.blueprint)
    app.register_blueprint(purchases.blueprint)
    app.register_blueprint(webhooks.blueprint)
    app.register_blueprint(admin.blueprint)
    error_handlers.register(app)
