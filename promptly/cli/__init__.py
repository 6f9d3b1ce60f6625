"""The operator's commands, one module per group."""

from flask import Flask

from promptly.cli import (
    audit,
    balance,
    doctor,
    holds,
    imports,
    keys,
    ledger,
    outbox,
    payments,
    prices,
    trials,
    upstreams,
    usage,
    users,
    webhooks,
)

GROUPS = (
    users,
    keys,
    balance,
    ledger,
    usage,
    prices,
    trials,
    holds,
    payments,
    webhooks,
    outbox,
    audit,
    imports,
    upstreams,
    doctor,
)


def register(app: Flask) -> None:
    """Add every command group to `flask`."""
    for module in GROUPS:
        app.cli.add_command(module.group)
