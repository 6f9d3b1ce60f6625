"""Payment cases that need an operator's decision: the list, one case, the decision."""

from typing import Any

from flask import g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from promptly import labels, money
from promptly.blueprints.admin import actor, confirmation, flash_messages, pages, refund_rows
from promptly.blueprints.admin.confirmation import Confirmation
from promptly.errors import InvalidRequest
from promptly.extensions import db
from promptly.models import Order, PaymentCase, User
from promptly.services import paging
from promptly.services.payments import (
    case_choices,
    case_decisions,
    cases,
    orders,
    refunds,
    reversals,
)
from promptly.services.payments.case_choices import Choice
from promptly.settings import current_settings
from promptly.transactions import transaction


def index() -> str:
    """List cases, newest first: the open ones, or all with `show=all`; and refunds on their way."""
    show_all = request.args.get("show") == "all"
    page = cases.page(paging.PAGE_SIZE, pages.cursor(), only_open=not show_all)
    newer, older = pages.links(page)
    return render_template(
        "admin/cases.html",
        rows=[
            case_of(case) | {"number": number, "choices": _open_choices(case)}
            for case, number in page.rows
        ],
        refunds=refund_rows.unfinished(),
        show_all=show_all,
        newer=newer,
        older=older,
        notice=flash_messages.notice(),
    )


def one(case_id: int) -> str:
    """Show one case with its choices; with `choice`, ask for confirmation."""
    case = cases.find(case_id)
    order = case_choices.order_of(case)
    user = None if order is None or order.user_id is None else db.session.get(User, order.user_id)
    chosen = request.args.get("choice")
    if chosen is not None:
        return _question(case, order, user, chosen)
    offer = case_choices.of(case, order)
    return render_template(
        "admin/case.html",
        **case_of(case),
        order=order,
        email=None if user is None else user.email,
        facts=_facts(case, order, user),
        choices=_open_choices(case),
        is_unread=offer.is_unread and case.resolution is None,
        provider=labels.PROVIDERS[case.provider],
        refunds=[] if order is None else _refunds_of(case, order),
        notice=_notice(case),
    )


def check(case_id: int) -> AnyResponse:
    """Read from the provider what was received for a case, and show its choices anew."""
    with transaction():
        order = case_choices.order_of(cases.find(case_id))
        confirmation.require_account(None if order is None else order.user_id)
    case_decisions.read(case_id, current_settings())
    with transaction():
        order = case_choices.order_of(cases.find(case_id))
        act = actor.record(
            "payment.read",
            user_id=None if order is None else order.user_id,
            subject=str(case_id),
            after={
                "order": None if order is None else order.number,
                "received_minor": None if order is None else order.received_minor,
            },
        )
    return redirect(url_for("admin.case", case_id=case_id, act=act), 303)


def resolve(case_id: int) -> AnyResponse:
    """Record and apply the decision; if it is a refund, request it from the provider."""
    chosen = request.form.get("choice", "")
    case_decisions.prepare(case_id, chosen, current_settings())
    with transaction():
        order = case_choices.order_of(cases.find(case_id))
        user_id = None if order is None else order.user_id
        confirmation.require_account(user_id)
        before = {"state": None if order is None else order.state}
        _, refund_id = case_decisions.resolve(
            case_id,
            chosen,
            actor=g.actor,
            note=confirmation.note(),
            seen=request.form.get("seen", ""),
        )
        act = actor.record(
            "payment.resolve",
            user_id=user_id,
            subject=str(case_id),
            before=before,
            after={
                "choice": chosen,
                "order": None if order is None else order.number,
                "state": None if order is None else order.state,
            },
        )
    if refund_id is not None:
        refunds.execute_refund(refund_id, current_settings())
    return redirect(url_for("admin.case", case_id=case_id, act=act), 303)


def case_of(case: PaymentCase) -> dict[str, Any]:
    """Return the fields shown of a case."""
    return {
        "case": case,
        "label": labels.plain(labels.CASES, case.kind),
        "resolution": case.resolution and labels.plain(labels.RESOLUTIONS, case.resolution),
    }


def _open_choices(case: PaymentCase) -> tuple[Choice, ...]:
    if case.resolution is not None:
        return ()
    return case_choices.of(case, case_choices.order_of(case)).choices


def _refunds_of(case: PaymentCase, order: Order) -> list[dict[str, Any]]:
    """Return the refunds that have decided a case, newest first; earlier ones may have failed."""
    found = [row for row in reversals.of_order(order.id) if row.case_id == case.id]
    return [refund_rows.row_of(row, order) for row in reversed(found)]


def _question(case: PaymentCase, order: Order | None, user: User | None, chosen: str) -> str:
    if case.resolution is not None:
        raise InvalidRequest("This case has already been decided.")
    choice = case_choices.of(case, order).find(chosen)
    return confirmation.ask(
        Confirmation(
            title=f"{choice.label}?",
            facts=[("Case", str(case.id)), *_facts(case, order, user)],
            effects=list(choice.effects),
            action=url_for("admin.resolve", case_id=case.id),
            button=choice.label,
            back=url_for("admin.case", case_id=case.id),
            user_id=None if order is None else order.user_id,
            fields={"choice": choice.name, "seen": choice.seen},
            note=True,
            danger=choice.name not in {cases.CREDIT, cases.CREDIT_SURPLUS},
        )
    )


def _notice(case: PaymentCase) -> str | None:
    notice = flash_messages.notice(subject=str(case.id))
    if notice is not None and case.resolution is None and cases.is_reopened(case):
        return "The refund did not succeed, so this case is open again."
    return notice


def _facts(case: PaymentCase, order: Order | None, user: User | None) -> list[tuple[str, str]]:
    facts = [
        ("Problem", labels.plain(labels.CASES, case.kind)),
        ("Detail", case.detail),
        ("Provider", f"{labels.PROVIDERS[case.provider]}, {case.checkout_id}"),
    ]
    if order is None:
        return facts
    price = money.shown(order.amount_minor, order.currency)
    bought = f"{order.tokens:,} tokens for {price}"
    if order.pack == orders.UNKNOWN_PACK:
        bought = f"on record only, {price}"
    facts.append(("Purchase", f"{order.number}: {bought}"))
    facts.append(("Account", "deleted" if user is None else user.email))
    if order.received_minor is not None:
        facts.append(("Received", money.shown(order.received_minor, order.paid_in)))
        facts.append(("Given back", refund_rows.given_back(order)))
    elif case.paid_minor is not None:
        facts.append(("Paid", money.shown(case.paid_minor, order.currency)))
    return facts
