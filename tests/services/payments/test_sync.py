"""An older answer never overwrites a newer one."""

import threading

from promptly.services.payments import sync
from promptly.services.payments.providers import registry
from promptly.services.payments.sync import Synced
from sandbox.process import wait_until
from tests.support.shop import Shop

DISPUTES = "GET /v1/disputes"


def synchronize(shop: Shop, order_id: int) -> Synced | None:
    with shop.app.app_context(), registry.connect("stripe", shop.settings) as provider:
        return sync.sync(order_id, provider)


def test_an_answer_that_comes_late_is_not_applied(shop: Shop) -> None:
    """A worker stalls after fetching an open dispute, which is won before the worker goes on."""
    shop.stripe.set_rule("drop")
    user_id = shop.account()
    page = shop.buy(user_id)
    order_id = int(shop.order_of(page)["id"])
    dispute = shop.stripe.open_dispute(shop.stripe.charge_of(page))
    shop.stripe.set_fault(DISPUTES, when="after", seconds=2.0, times=1)
    asked = len(shop.stripe.requests(DISPUTES))
    late: list[Synced | None] = []
    thread = threading.Thread(target=lambda: late.append(synchronize(shop, order_id)))
    thread.start()
    wait_until(lambda: len(shop.stripe.requests(DISPUTES)) > asked, 10, "the question")
    # The worker's lease keeps others out, until it expires as if the worker were dead.
    assert synchronize(shop, order_id) is None
    shop.rows("UPDATE orders SET leased_until = now() - interval '1 second'")
    shop.stripe.close_dispute(dispute["id"], "won")
    assert synchronize(shop, order_id) is not None
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["paid"], 25_000_000)
    thread.join(20)
    assert late == [None]
    assert (shop.history(user_id), shop.paid_tokens(user_id)) == (["paid"], 25_000_000)


def test_an_unchanged_order_stays_as_it_is(shop: Shop) -> None:
    user_id = shop.account()
    shop.order(user_id)
    order_id = int(shop.orders(user_id)[0]["id"])
    synced = synchronize(shop, order_id)
    assert synced is not None and (synced.before, synced.after) == ("open", "open")
    assert shop.orders(user_id)[0]["leased_by"] is None
