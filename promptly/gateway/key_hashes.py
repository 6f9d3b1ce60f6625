"""Hashes of presented keys under all accepted peppers, and their renewal under the current one."""

import logging

from promptly.errors import ServiceUnavailable
from promptly.runtime.database import HotPathDatabase
from promptly.services.accounts import key_format, peppers
from promptly.setting_fields import SettingsError
from promptly.settings import Settings

logger = logging.getLogger(__name__)


class KeyHashes:
    """The peppers of one process. Of several hashes of a key, the first is the current one."""

    def __init__(self, database: HotPathDatabase, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._peppers = [pepper.reveal() for pepper in settings.key_peppers]

    def of(self, key: str) -> tuple[bytes, ...]:
        return tuple(key_format.digest(key, pepper) for pepper in self._peppers)

    def store(self, key_id: int, key_hash: bytes) -> None:
        """Replace a verified key's stored hash by its current one; raises ServiceUnavailable."""
        try:
            peppers.rehash(self._database, key_id, key_hash, self._settings)
        except SettingsError as problem:
            logger.error("keys cannot be rehashed", extra={"reason": " ".join(problem.problems)})
            raise ServiceUnavailable from problem

    def renew(self, key_id: int, key_hash: bytes) -> None:
        """Like `store`, for a key that works all the same: after a failure its next use renews."""
        try:
            self.store(key_id, key_hash)
        except ServiceUnavailable:
            logger.warning("key not rehashed", extra={"key_id": key_id})
        else:
            logger.info("key rehashed under the current pepper", extra={"key_id": key_id})
