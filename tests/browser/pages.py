"""Every page of the site and the way to reach it, for the checks and the screenshots."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, BrowserContext, Page, Response, StorageState

from promptly.blueprints.docs.library import Library
from promptly.models.states import OrderState
from promptly.request_ids import public_id
from tests.browser import ways
from tests.browser.site import Site
from tests.browser.ways import World

# A phone and a desktop.
WIDTHS = (360, 1440)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
DOCS = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True)
class Shown:
    """One page. `path` may contain fields of the past: `{ada_id}`, or `{paid}` for the number
    of ada's purchase in that state.

    `who` opens it: `stranger`, `ada` (a customer with a past), `newcomer`, `operator`. `act`
    continues from the path, mostly by a form; `status` is that of the page shown last. The site
    is in the disturbance `within` during all of this.
    """

    name: str
    path: str
    who: str = "stranger"
    status: int = 200
    act: Callable[[Page, World], None] = ways.nothing
    within: Callable[[Site], AbstractContextManager[None]] = ways.undisturbed

    def open(self, page: Page, world: World) -> int:
        """Open it in a browser page; return the status of the last document shown."""
        statuses: list[int] = []

        def note(response: Response) -> None:
            if response.request.is_navigation_request():
                statuses.append(response.status)

        page.on("response", note)
        path = self.path.format(**vars(world.past), **world.past.orders)
        with self.within(world.site):
            page.goto(world.site.url + path)
            self.act(page, world)
        page.wait_for_load_state()
        page.remove_listener("response", note)
        return statuses[-1]


class Visitors:
    """Browser contexts for each kind of visitor, who signs in only once."""

    def __init__(self, browser: Browser, world: World) -> None:
        self._browser = browser
        self._world = world
        self._cookies: dict[str, StorageState] = {}

    def context(self, who: str, **options: Any) -> BrowserContext:
        """Open a new context, signed in as `who`; `options` are those of `new_context`."""
        if who != "stranger":
            options["storage_state"] = self._signed_in(who)
        return self._browser.new_context(**options)

    def _signed_in(self, who: str) -> StorageState:
        if who not in self._cookies:
            site, past = self._world.site, self._world.past
            entrances = {
                "ada": f"/dashboard?key={past.ada_key}",
                "newcomer": f"/dashboard?key={past.newcomer_key}",
                "operator": f"/admin?key={site.admin_key}",
            }
            context = self._browser.new_context()
            context.new_page().goto(site.url + entrances[who])
            self._cookies[who] = context.storage_state()
            context.close()
        return self._cookies[who]


PUBLIC = (
    Shown("landing", "/"),
    Shown("landing-key-refused", "/", status=401, act=ways.enter_a_wrong_key),
    Shown("register", "/register"),
    Shown("register-refused", "/register", status=400, act=ways.register("nobody")),
    Shown("registered", "/register", act=ways.register("somebody@example.com")),
)
ERRORS = (
    Shown("error-400", "/register/confirm?token=spent", status=400),
    Shown("error-401", "/dashboard?key=sk-nobodys", status=401),
    Shown("error-403", "/admin?key=wrong", status=403),
    Shown("error-404", "/nowhere", status=404),
    Shown("error-405", "/session", status=405),
    Shown("error-413", "/", status=413, act=ways.send_too_much),
    Shown("error-429", "/register", status=429, act=ways.register_too_often),
    Shown("error-500", "/dashboard", who="newcomer", status=500, within=ways.a_bug),
    Shown("error-503", "/dashboard", who="newcomer", status=503, within=ways.no_answer),
)
CUSTOMERS = (
    Shown("dashboard", "/dashboard", who="ada"),
    Shown("dashboard-new", "/dashboard", who="newcomer"),
    Shown("dashboard-suspended", "/dashboard", who="newcomer", within=ways.suspended),
    Shown("dashboard-saved", "/dashboard?saved=mails", who="newcomer"),
    Shown(
        "dashboard-refused",
        "/dashboard",
        who="newcomer",
        status=400,
        act=ways.want_a_strange_warning,
    ),
    Shown("key-refused", "/dashboard", who="newcomer", status=400, act=ways.make_a_key("")),
    Shown("key-made", "/dashboard", who="newcomer", act=ways.make_a_key("laptop")),
    Shown("key", "/dashboard/keys/{key_id}", who="ada"),
    Shown(
        "key-limits-refused",
        "/dashboard/keys/{key_id}",
        who="ada",
        status=400,
        act=ways.limit_a_key,
    ),
    Shown("key-revoke", "/dashboard/keys/{key_id}/revoke", who="ada"),
    Shown("key-revoke-last", "/dashboard", who="newcomer", act=ways.revoke_a_key),
    Shown("key-restricted", "/", status=403, act=ways.enter_a_key_for_the_api),
    Shown("switch-account", "/dashboard", who="ada", act=ways.open_anothers_link),
    Shown("requests", "/dashboard/requests", who="ada"),
    Shown("requests-none", "/dashboard/requests", who="newcomer"),
    Shown("receipt", "/dashboard/requests", who="ada", act=ways.open_a_receipt),
    Shown("delete", "/dashboard/delete", who="ada"),
    Shown("delete-asked", "/", act=ways.ask_for_deletion),
    Shown("delete-confirm", "/", act=ways.follow_the_link),
    Shown("deleted", "/", act=ways.delete_an_account),
    Shown("reissue-confirm", "/", act=ways.follow_a_reissue_link),
    Shown("reissued", "/", act=ways.reissue),
    Shown("purchases", "/purchases", who="ada"),
    *(
        Shown(f"purchase-{state.replace('_', '-')}", f"/checkout/{{{state}}}", who="ada")
        for state in OrderState
    ),
    Shown("purchase-canceled", "/checkout/{open}?canceled=1", who="ada"),
    Shown("purchase-underpaid", "/checkout/{underpaid}", who="ada"),
    Shown("purchase-known", "/checkout/{processing}?known=1", who="ada"),
    Shown("purchase-receipt", "/purchases/{partly_refunded}/receipt", who="ada"),
    Shown(
        "amount-refused",
        "/dashboard",
        who="newcomer",
        status=400,
        act=ways.choose_an_amount("ten"),
    ),
    Shown("purchase-signed-out", "/checkout/{paid}", status=401),
    Shown(
        "checkout-problem",
        "/dashboard",
        who="newcomer",
        status=503,
        act=ways.buy,
        within=ways.stripe_fails,
    ),
)
OPERATORS = (
    Shown("admin-sign-in", "/admin", status=403),
    *(
        Shown(f"admin-{name}", f"/admin{path}", who="operator")
        for name, path in {
            "overview": "",
            "users": "/users",
            "users-found": "/users?q=hopper",
            "users-none": "/users?q=nobody-has-this",
            "user": "/users/{ada_id}",
            "user-new": "/users/{newcomer_id}",
            "user-ledger": "/users/{ada_id}/ledger",
            "adjust": "/users/{ada_id}/adjust?user_id={ada_id}&delta=-1000000",
            "grant": "/users/{ada_id}/grant?user_id={ada_id}&tokens=250000&days=14",
            "limit": "/users/{ada_id}/limit?requests_per_minute=600&concurrent_requests=",
            "suspend": "/users/{ada_id}/suspend?user_id={ada_id}",
            "resume": "/users/{ada_id}/resume?user_id={ada_id}",
            "delete": "/users/{ada_id}/delete?user_id={ada_id}",
            "reissue": "/users/{ada_id}/reissue",
            "key": "/users/{ada_id}/keys/{key_id}",
            "key-limits": "/users/{ada_id}/keys/{key_id}/limits?cap=1,000,000&per=day&expires=",
            "revoke": "/users/{ada_id}/keys/{key_id}/revoke",
            "purchases": "/purchases",
            "purchases-owed": "/purchases?owed=1",
            "purchase": "/purchases/{partly_refunded}",
            "purchase-attention": "/purchases/{attention}",
            "refund": "/purchases/{paid}/refund?amount=1.00",
            "cases": "/cases",
            "cases-all": "/cases?show=all",
            "case": "/cases/{case_id}",
            "case-credit": "/cases/{case_id}?choice=credit",
            "case-surplus": "/cases/{over_case_id}",
            "case-refund-all": "/cases/{over_case_id}?choice=refund_all",
            "case-refunded": "/cases/{refunded_case_id}",
            "reconciliations": "/reconciliations",
            "webhooks": "/webhooks",
            "webhooks-parked": "/webhooks?state=parked",
            "webhooks-none": "/webhooks?state=pending&provider=btcpay",
            "webhook": "/webhooks/{event_id}",
            "outbox": "/outbox",
            "mail": "/outbox/{mail_id}",
            "mail-resend": "/outbox/{mail_id}/resend",
            "mail-cancel": "/outbox/{waiting_mail_id}/cancel",
            "holds-none": "/holds",
            "audit": "/audit",
            "audit-of-account": "/audit?user_id={ada_id}",
            "audit-none": "/audit?user_id=999999",
        }.items()
    ),
    Shown("admin-servers", "/admin/servers", who="operator", within=ways.busy_servers),
    Shown("admin-servers-idle", "/admin/servers", who="operator"),
    Shown("admin-drain", "/admin/servers", who="operator", act=ways.drain_a_server),
    Shown("admin-servers-drained", "/admin/servers", who="operator", within=ways.a_drained_server),
    Shown(
        "admin-servers-resume",
        "/admin/servers",
        who="operator",
        act=ways.resume_a_server,
        within=ways.a_drained_server,
    ),
    Shown("admin-holds", "/admin/holds", who="operator", within=ways.a_silent_process),
    Shown(
        "admin-recover",
        f"/admin/holds/{public_id(ways.DEAD_REQUEST)}/recover",
        who="operator",
        within=ways.a_silent_process,
    ),
    Shown(
        "admin-user-suspended",
        "/admin/users/{newcomer_id}",
        who="operator",
        within=ways.suspended,
    ),
    Shown(
        "admin-limit-refused",
        "/admin/users/{ada_id}/limit?requests_per_minute=many",
        who="operator",
        status=400,
    ),
    Shown(
        "admin-adjust-refused",
        "/admin/users/{ada_id}/adjust?delta=many",
        who="operator",
        status=400,
    ),
)
DOCUMENTS = (
    *(
        Shown(f"docs-{name.replace('/', '-').lower()}", f"/docs/{path}")
        for path, name in Library(DOCS, "").names.items()
    ),
    Shown("docs-search", "/docs/search?q=tokens"),
    Shown("docs-search-nothing", "/docs/search?q=nowhere"),
    Shown("docs-404", "/docs/nowhere", status=404),
)
PAGES = (*PUBLIC, *ERRORS, *CUSTOMERS, *OPERATORS, *DOCUMENTS)
