"""HTTP routes as Flask blueprints; each guards its own.

admin           operator panel and form API, behind an address allowlist and admin keys
docs            documentation pages, /AGENTS.md and /llms.txt
ops             health checks
purchases       checkout and purchase pages of signed-in customers
site            landing page, registration, sign-in and dashboard
v1              the metered inference API below /v1
openapi         /openapi.json
webhooks        webhook receivers for Stripe and BTCPay
address_limit   requests in flight per address, behind proxies
charts          daily figures as SVG coordinates
error_handlers  errors as JSON or pages; error_shapes has the JSON of /v1, wrong_urls hints
form_body       reads forms and webhooks before the first query
hosts           refuses requests for foreign host names
navigation      whether a request is a browser opening a page; its query without a key
page_headers    security headers of every page
refused_bodies  receiving the small body of a request before it is refused
static_files    stylesheets, scripts and icons, below /static/
unexpected      outages of PostgreSQL and bugs, as errors of ours

Each blueprint lists its routes next to where it is created, with `add_url_rule(path, endpoint,
view, methods=…)`. Views carry no routing decorators; links name endpoints with `url_for`.
"""

from email.utils import parseaddr

from flask import Flask, Request, Response
from flask.globals import request_ctx

from promptly.blueprints import (
    address_limit,
    admin,
    docs,
    error_handlers,
    error_shapes,
    form_body,
    hosts,
    openapi,
    ops,
    purchases,
    site,
    static_files,
    v1,
    webhooks,
)
from promptly.errors import PromptlyError
from promptly.services.payments.clicks import new_form_token
from promptly.settings import Settings, current_settings


def register(app: Flask) -> None:
    """Register every blueprint and the error handlers."""
    settings: Settings = app.extensions["settings"]
    contact = settings.support_email or parseaddr(settings.smtp_from)[1]
    app.jinja_env.globals["contact_address"] = contact
    app.jinja_env.globals["support_email"] = settings.support_email
    app.jinja_env.globals["new_form_token"] = new_form_token
    error_handlers.register(app)
    app.before_request(begin)
    static_files.register(app)
    app.register_blueprint(docs.blueprint)
    app.register_blueprint(openapi.blueprint)
    app.register_blueprint(ops.blueprint)
    app.register_blueprint(v1.blueprint)
    front = v1.Front(app.extensions["gateway"], v1.POSTED, v1.HOLDING, app.wsgi_app)
    app.wsgi_app = front  # type: ignore[method-assign]
    app.register_blueprint(site.blueprint)
    app.register_blueprint(purchases.blueprint)
    app.register_blueprint(webhooks.blueprint)
    app.register_blueprint(admin.blueprint)


def begin() -> Response | None:
    """Check path and host, answer preflights and read a form, before the blueprints' own checks."""
    current: Request = request_ctx.request
    settings = current_settings()
    address_limit.count(current.environ, settings)
    try:
        error_handlers.refuse_double_slashes(current)
        hosts.refuse_foreign_host(current.environ, settings)
    except PromptlyError:
        # The checks of /v1, which count requests, do not run any more.
        v1.in_flask.count_refused()
        raise
    if (answer := v1.in_flask.answer_preflight()) is not None:
        return answer
    if current.routing_exception is not None:
        hosts.stay_on_host(current.routing_exception)
        v1.in_flask.count_refused()
    elif not error_shapes.is_api(current.path):
        form_body.read()
    return None
