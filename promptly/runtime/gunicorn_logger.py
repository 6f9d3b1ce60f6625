"""gunicorn's own messages, of its master and workers, as lines of promptly's JSON log."""

from typing import Any

from gunicorn import glogging


class Logger(glogging.Logger):  # type: ignore[misc]
    """The logger class named in gunicorn.conf.py, which has configured logging before."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.propagate = True

    def _set_handler(self, *_: object, **__: object) -> None:
        """Add no handler: every line goes through the one of the root logger."""
