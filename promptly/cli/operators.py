"""Who works at this command line, for the ledger and the audit log."""

import getpass

from promptly.services.audit import Operator


def operator() -> Operator:
    """`cli:` and the user of this machine; a terminal has no address."""
    try:
        return Operator(f"cli:{getpass.getuser()}")
    except (KeyError, OSError):
        return Operator("cli")
