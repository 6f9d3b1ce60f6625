"""Flask extensions, unbound; `create_app` binds them to the application."""

from flask import request
from flask_limiter import Limiter
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect

from promptly import pseudonyms
from promptly.models.base import Base
from promptly.runtime.pool_session import PoolSession


class PageLimiter(Limiter):
    """Flask-Limiter for pages only: the gateway limits /v1 itself, which saves a second check."""

    def _check_request_limit(
        self, callable_name: str | None = None, in_middleware: bool = True
    ) -> None:
        if not request.path.startswith("/v1/"):
            super()._check_request_limit(callable_name, in_middleware)


db = SQLAlchemy(model_class=Base, disable_autonaming=True, session_options={"class_": PoolSession})
migrate = Migrate()
csrf = CSRFProtect()
limiter = PageLimiter(key_func=pseudonyms.of_address)
