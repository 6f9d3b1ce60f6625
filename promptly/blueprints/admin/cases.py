"""Payment cases that need an operator's decision: the list, one case, the decision."""

from flask import g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from promptly import labels, money
from promptly.blueprints.admin import actor, confirmation, flash_messages, pages
from promptly.blueprints.admin.confirmation import Confirmation
from promptly.blueprints.admin.purchases import case_of
from promptly.errors import InvalidRequest
from promptly.extensions import db
from promptly.models import Order, PaymentCase, User
from promptly.services import paging
from promptly.services.payments import case_decisions, cases, refunds
from promptly.settings import current_settings
from promptly.transactions import transaction


def index() -> str:
    """List cases, newest first: the open ones, or all with `show=all`."""
    show_all = request.args.get("show") == "all"
    page = cases.page(paging.PAGE_SIZE, pages.cursor(), only_open=not show_all)
    newer, older = pages.links(page)
    return render_template(
        "admin/cases.html",
        rows=[case_of(case) | {"number": number} for case, number in page.rows],
        show_all=show_all,
        newer=newer,
        older=older,
        notice=flash_messages.notice(),
    )


def one(case_id: int) -> str:
    """Show one case with its choices; with `choice`, ask for confirmation."""
    case = cases.find(case_id)
    order = None if case.order_id is None else db.session.get(Order, case.order_id)
    user = None if order is None or order.user_id is None else db.session.get(User, order.user_id)
    choice = request.args.get("choice")
    if choice is not None:
        return _question(case, order, user, choice)
    return render_template(
        "admin/case.html",
        **case_of(case),
        order=order,
        email=None if user is None else user.email,
        facts=_facts(case, order, user),
        explained=[
            (choice, *labels.CHOICES[choice])
            for choice in (() if case.resolution else cases.choices(case.kind))
        ],
        notice=flash_messages.notice(subject=str(case_id)),
    )


def resolve(case_id: int) -> AnyResponse:
    """Record and apply the decision; if it is a refund, request it from the provider."""
    choice = request.form.get("choice", "")
    case_decisions.prepare(case_id, choice, current_settings())
    with transaction():
        case = cases.find(case_id)
        order = None if case.order_id is None else db.session.get(Order, case.order_id)
        user_id = None if order is None else order.user_id
        confirmation.require_account(user_id)
        before = {"state": None if order is None else order.state}
        _, refund_id = case_decisions.resolve(
            case_id, choice, actor=g.actor, note=confirmation.note()
        )
        act = actor.record(
            "payment.resolve",
            user_id=user_id,
            subject=str(case_id),
            before=before,
            after={
                "choice": choice,
                "order": None if order is None else order.number,
                "state": None if order is None else order.state,
            },
        )
    if refund_id is not None:
        refunds.execute_refund(refund_id, current_settings())
    return redirect(url_for("admin.case", case_id=case_id, act=act), 303)


def _question(case: PaymentCase, order: Order | None, user: User | None, choice: str) -> str:
    if case.resolution is not None:
        raise InvalidRequest("This case has already been decided.")
    if choice not in cases.choices(case.kind):
        raise InvalidRequest("This choice is not available for this case.", param="choice")
    label, effect = labels.CHOICES[choice]
    return confirmation.ask(
        Confirmation(
            title=f"{label}: case {case.id}?",
            facts=_facts(case, order, user),
            effects=[effect],
            action=url_for("admin.resolve", case_id=case.id),
            button=label,
            back=url_for("admin.case", case_id=case.id),
            user_id=None if order is None else order.user_id,
            fields={"choice": choice},
            note=True,
            danger=choice != cases.CREDIT,
        )
    )


def _facts(case: PaymentCase, order: Order | None, user: User | None) -> list[tuple[str, str]]:
    facts = [
        ("Problem", labels.plain(labels.CASES, case.kind)),
        ("Detail", case.detail),
        ("Provider", f"{labels.PROVIDERS[case.provider]}, {case.checkout_id}"),
    ]
    if order is not None:
        price = money.shown(order.amount_minor, order.currency)
        facts.append(("Purchase", f"{order.number}: {order.tokens:,} tokens for {price}"))
        facts.append(("Account", "deleted" if user is None else user.email))
        if case.paid_minor is not None:
            facts.append(("Paid", money.shown(case.paid_minor, order.currency)))
    return facts
