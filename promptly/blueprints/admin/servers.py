"""Model servers: their slots, who waits for one, and taking a server out of service."""

from dataclasses import dataclass

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from promptly import labels
from promptly.blueprints.admin import actor, confirmation, flash_messages
from promptly.blueprints.admin.confirmation import Confirmation
from promptly.gateway import current_gateway, server_states
from promptly.gateway.server_states import ModelServer
from promptly.gateway.slots.report import BUSY, IDLE, UNSETTLED, SlotState
from promptly.services import drains
from promptly.services.accounts import directory
from promptly.transactions import transaction


@dataclass(frozen=True)
class ServerCard:
    """A model server on the page; `slots` is a sentence about all of them."""

    server: ModelServer
    slots: str
    rows: list[SlotState]


def index() -> str:
    """Show each server with its slots, and the accounts that wait."""
    gateway = current_gateway()
    gateway.pool.seen()
    report = server_states.read_slots(gateway)
    servers = server_states.model_servers(gateway, drains.drained(), report)
    waiting = sorted(
        report.accounts if report else (), key=lambda item: (-item.longest_seconds, item.account)
    )
    return render_template(
        "admin/servers.html",
        cards=[_card(server) for server in servers],
        report=report,
        waiting=waiting,
        addresses=directory.addresses(report.account_ids() if report else ()),
        labels=labels,
        age=_age,
        notice=flash_messages.notice(),
    )


def drain_question() -> str:
    """Confirm taking a server out of service."""
    server = _asked()
    running = "unknown, as Redis is away" if server.running is None else f"{server.running:,}"
    effects = [
        "Within seconds it gets no new request; those that it runs go on to their end.",
        "Requests that wait for it go to another server.",
    ]
    if not _others_ready(server):
        effects.append(
            "No other model server is ready: new requests are refused with 503 until this one is"
            " resumed."
        )
    return confirmation.ask(
        Confirmation(
            title="Drain this model server?",
            facts=[
                ("Server", server.upstream.url),
                ("Model", server.upstream.model or "–"),
                ("Running", running),
            ],
            effects=effects,
            action=url_for("admin.drain_server"),
            button="Drain",
            back=url_for("admin.servers"),
            fields={"url": server.upstream.url},
            note=True,
        )
    )


def resume_question() -> str:
    """Confirm sending a server requests again."""
    server = _asked()
    return confirmation.ask(
        Confirmation(
            title="Resume this model server?",
            facts=[("Server", server.upstream.url), ("Last probe", server.probe)],
            effects=["It gets requests again within seconds of answering."],
            action=url_for("admin.resume_server"),
            button="Resume",
            back=url_for("admin.servers"),
            fields={"url": server.upstream.url},
            danger=False,
        )
    )


def drain() -> AnyResponse:
    """Take a server out of service; it may be out already."""
    return _act(request.form.get("url", ""), is_drain=True)


def resume() -> AnyResponse:
    """Send a server requests again; it may be in service already."""
    return _act(request.form.get("url", ""), is_drain=False)


def _act(written: str, *, is_drain: bool) -> AnyResponse:
    confirmation.require_account(None)
    with transaction():
        url = _find(written)
        if is_drain:
            act = drains.drain(url, actor.operator(), confirmation.note())
        else:
            act = drains.resume(url, actor.operator())
    return redirect(url_for("admin.servers", act=act), 303)


def _find(written: str) -> str:
    return drains.find(written, [server.url for server in current_gateway().pool.servers])


def _asked() -> ModelServer:
    """Return the server of the confirmation."""
    url = _find(request.args.get("url", ""))
    gateway = current_gateway()
    gateway.pool.seen()
    servers = server_states.model_servers(
        gateway, drains.drained(), server_states.read_slots(gateway)
    )
    return next(server for server in servers if server.upstream.url == url)


def _others_ready(server: ModelServer) -> bool:
    """Return whether another server takes the requests that this one gets."""
    pool, url = current_gateway().pool, server.upstream.url
    out = {*drains.drained(), url}
    model, embeddings = server.upstream.model, server.upstream.only_embeddings
    return any(
        up.ready and up.url not in out and (up.model, up.only_embeddings) == (model, embeddings)
        for up in pool.upstreams
    )


def _card(server: ModelServer) -> ServerCard:
    if server.slots is None:
        return ServerCard(server, f"{server.upstream.slots or 'number unknown'}, use unknown", [])
    slots, total = server.slots, server.upstream.slots
    if not slots.named:
        return ServerCard(server, f"{slots.running} of {total} taken, counted only", slots.slots)
    counts = (
        f"{slots.count(state)} {labels.SLOTS[state]}"
        for state in (BUSY, IDLE, UNSETTLED)
        if slots.count(state)
    )
    return ServerCard(server, ", ".join(counts) or "none in use yet", slots.slots)


def _age(seconds: float | None) -> str:
    """Format an age for display, in one unit or two."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
