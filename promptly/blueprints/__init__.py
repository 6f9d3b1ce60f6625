"""HTTP routes as Flask blueprints; each guards its own.

admin           operator panel and form API, behind an address allowlist and ADMIN_KEY
docs            documentation pages, /AGENTS.md and /llms.txt
ops             health checks
purchases       checkout and purchase pages of signed-in customers
site            landing page, registration, sign-in and dashboard
v1              the metered inference API below /v1
openapi         /openapi.json
webhooks        webhook receivers for Stripe and BTCPay
charts          daily figures as SVG coordinates
error_handlers  errors as JSON or pages; error_shapes has the JSON of /v1
navigation      whether a request is a browser opening a page
page_headers    security headers of every page
refused_bodies  receiving the small body of a request before it is refused
static_files    stylesheets, scripts and icons, below /static/

Each blueprint lists its routes next to where it is created, with `add_url_rule(path, endpoint,
view, methods=…)`. Views carry no routing decorators; links name endpoints with `url_for`.
"""

from email.utils import parseaddr

from flask import Flask

from promptly.blueprints import (
    admin,
    docs,
    error_handlers,
    openapi,
    ops,
    purchases,
    site,
    static_files,
    v1,
    webhooks,
)
from promptly.settings import Settings


def register(app: Flask) -> None:
    """Register every blueprint and the error handlers."""
    settings: Settings = app.extensions["settings"]
    app.jinja_env.globals["contact_address"] = parseaddr(settings.smtp_from)[1]
    error_handlers.register(app)
    static_files.register(app)
    app.register_blueprint(docs.blueprint)
    app.register_blueprint(openapi.blueprint)
    app.register_blueprint(ops.blueprint)
    app.register_blueprint(v1.blueprint)
    app.register_blueprint(site.blueprint)
    app.register_blueprint(purchases.blueprint)
    app.register_blueprint(webhooks.blueprint)
    app.register_blueprint(admin.blueprint)
