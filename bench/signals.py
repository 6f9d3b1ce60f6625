"""Signals that end a benchmark."""

import signal
import sys


def exit_on_signals() -> None:
    """Let a signal end the benchmark by an exception, so that its files and databases go too."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores one
            signal.signal(number, lambda signum, _: sys.exit(128 + signum))
