"""The operator at this command line, for the ledger and the audit log."""

import getpass

from promptly.services.audit import Operator


def operator() -> Operator:
    """Return `cli:` and the local user's name; a terminal has no network address."""
    try:
        return Operator(f"cli:{getpass.getuser()}")
    except (KeyError, OSError):
        return Operator("cli")
