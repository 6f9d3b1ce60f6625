"""A look at every balance several times a second, PostgreSQL permitting."""

import threading
from typing import Self

import psycopg2

LOOK_SECONDS = 0.2
OVERDRAWN = """
SELECT count(*) FROM balances
WHERE paid_tokens < held_paid OR trial_tokens < held_trial
   OR least(paid_tokens, trial_tokens, held_paid, held_trial) < 0
"""


class Watch:
    """Counts overdrawn balances in a thread; a context manager ends it."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")
        self.looks = 0
        self.overdrawn = 0
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                connection = psycopg2.connect(self._url, connect_timeout=5)
                connection.autocommit = True
                self._look(connection)
            except psycopg2.Error:  # PostgreSQL is away
                self._over.wait(LOOK_SECONDS)

    def _look(self, connection: "psycopg2.extensions.connection") -> None:
        with connection.cursor() as cursor:
            while not self._over.wait(LOOK_SECONDS):
                cursor.execute(OVERDRAWN)
                [(found,)] = cursor.fetchall()
                self.looks += 1
                self.overdrawn += found
        connection.close()
