"""Scrapes of ``/metrics`` during a measurement, as by Prometheus but more often."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

_TIMEOUT_SECONDS = 10.0
_FORMAT = {"Accept": "application/openmetrics-text;version=1.0.0"}


def scrape(port: int) -> int:
    """Read all metrics of a gateway once; return the status."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=_FORMAT)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as problem:
        return problem.code


@contextmanager
def every_second(port: int) -> Iterator[None]:
    """Scrape once a second until the end of the block; raises RuntimeError if one failed."""
    ended = Event()
    failures: list[object] = []

    def run() -> None:
        while not ended.wait(1.0):
            try:
                status: object = scrape(port)
            except OSError as problem:
                status = problem
            if status != 200:
                failures.append(status)

    thread = Thread(target=run, name="scraping", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failures:
        raise RuntimeError(f"/metrics was not answered: {failures[0]}")
