"""The hosted payment page of a session: ``/c/pay/{session}``."""

from html import escape

from sandbox.provider import pages
from sandbox.provider.control import Refused
from sandbox.provider.http import Answer, Request, Routes, form, see_other
from sandbox.stripe import checkout
from sandbox.stripe.account import Account
from sandbox.stripe.errors import ApiError
from sandbox.stripe.objects import Object

PLACEHOLDER = "{CHECKOUT_SESSION_ID}"

METHODS = (
    ("card", "Card"),
    ("declined", "A card that is declined"),
    ("debit", "Bank debit, which takes some time to settle"),
)


def add_pages(routes: Routes, account: Account) -> None:
    """Serve the page and handle its buttons."""

    def show(request: Request) -> Answer:
        with account.lock:
            return _page(account, request.values["id"])

    def act(request: Request) -> Answer:
        with account.lock:
            return _act(account, request.values["id"], form(request))

    routes.add("GET", "/c/pay/{id}", show)
    routes.add("POST", "/c/pay/{id}", act)


def _page(account: Account, session_id: str, notice: str = "") -> Answer:
    try:
        session = account.get("checkout.session", session_id)
    except ApiError:
        return pages.page("There is no such checkout", "", 404)
    if session["status"] != "open":
        said = "This checkout has been paid" if session["payment_intent"] else "Expired checkout"
        return pages.page(said, _way_back(session))
    names = ", ".join(account.hidden.get(session_id, {}).get("names", []))
    email = (session["customer_details"] or {}).get("email", "")
    fields = (
        f'<label>Email<input type="email" name="email" required value="{escape(email)}"></label>'
    )
    content = [
        f'<p role="alert">{escape(notice)}</p>' if notice else "",
        pages.facts([("You buy", names), ("You pay", price(session))]),
        pages.form(
            fields
            + pages.choices("Pay by", "method", METHODS)
            + pages.button("action", "pay", f"Pay {price(session)}")
        ),
        pages.form(pages.button("action", "cancel", "Cancel")) if session["cancel_url"] else "",
    ]
    return pages.page("Simulated Stripe Checkout", "\n".join(content), 402 if notice else 200)


def _act(account: Account, session_id: str, given: dict[str, str]) -> Answer:
    try:
        session = account.get("checkout.session", session_id)
    except ApiError:
        return pages.page("There is no such checkout", "", 404)
    if given.get("action") == "cancel" and session["cancel_url"]:
        # The session stays open, so that a returning customer can still pay.
        return see_other(session["cancel_url"])
    if given.get("method") == "declined":
        return _page(account, session_id, "Your card was declined. Try another one.")
    try:
        checkout.pay(
            account,
            session_id,
            delayed=given.get("method") == "debit",
            email=given.get("email", ""),
        )
    except Refused:
        return _page(account, session_id)
    return see_other(session["success_url"].replace(PLACEHOLDER, session_id))


def price(session: Object) -> str:
    """Return a session's total as shown to the customer."""
    whole, rest = divmod(session["amount_total"], 100)
    return f"{whole}.{rest:02d} {session['currency'].upper()}"


def _way_back(session: Object) -> str:
    back = session["success_url"] if session["payment_intent"] else session["cancel_url"]
    return pages.link(back.replace(PLACEHOLDER, session["id"]), "Back to the shop") if back else ""
