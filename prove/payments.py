"""Customers who buy packs and get money back, and webhooks in every order but the right one."""

import random
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import requests

from prove.scene import Scene
from sandbox.process import SandboxError
from tests.support.browser import Browser, UnexpectedPage

METHODS = ("stripe", "btcpay")
# Seconds between two purchases of one method, and between two disturbances of its webhooks.
PURCHASE_PAUSE = (0.5, 2.5)
DISTURBANCE_PAUSE = (1.0, 3.0)
REFUNDED_SHARE, DISPUTED_SHARE = 0.3, 0.1
DEBIT_SHARE = 0.2
QUIET_SECONDS = 90.0


class Payments:
    """One customer and one disturbance per payment method, in threads; a context manager."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self._scene = scene
        self._over = threading.Event()
        self._browsers = {method: _signed_in(scene) for method in METHODS}
        self.counts: Counter[str] = Counter()
        self._pool = ThreadPoolExecutor(2 * len(METHODS), thread_name_prefix="payments")
        self._futures: list[Future[None]] = []
        for method in METHODS:
            for run in (self._buy, self._disturb):
                chance = random.Random(f"{seed} {run.__name__} {method}")
                self._futures.append(self._pool.submit(run, method, chance))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()

    def check(self) -> None:
        """Raise the exception of a thread that has failed; none ends by itself."""
        for future in self._futures:
            if future.done():
                future.result()

    def finish(self) -> None:
        """Stop buying and disturbing, and let the providers deliver everything that they hold.

        A provider's operator sends what was given up once more. Raises SandboxError if the
        deliveries do not end.
        """
        self._over.set()
        for future in self._futures:
            future.result()
        for method in METHODS:
            provider = self._provider(method)
            provider.clear_rules()
            provider.release("shuffled")
            provider.wait_until_quiet(QUIET_SECONDS)
            for message in provider.messages():
                if message["state"] != "delivered":
                    provider.deliver(message["id"])

    def _provider(self, method: str) -> Any:
        return self._scene.stripe if method == "stripe" else self._scene.btcpay

    def _buy(self, method: str, chance: random.Random) -> None:
        paid: set[str] = set()
        while not self._over.wait(chance.uniform(*PURCHASE_PAUSE)):
            browser = chance.choice(self._browsers[method])
            pack = chance.choice(list(self._scene.packs))
            try:
                page = browser.order(method, pack).rstrip("/").rpartition("/")[2]
            except (UnexpectedPage, requests.RequestException):
                self.counts["orders refused"] += 1
                continue
            # A second order of the same pack leads to the same page until its payment is known.
            if page in paid:
                continue
            paid.add(page)
            if method == "stripe":
                self._pay_by_card_or_debit(page, chance)
            else:
                self._scene.btcpay.pay(page)
            self.counts["packs paid"] += 1

    def _pay_by_card_or_debit(self, page: str, chance: random.Random) -> None:
        stripe = self._scene.stripe
        is_debit = chance.random() < DEBIT_SHARE
        stripe.pay(page, delayed=is_debit)
        if is_debit:
            stripe.settle(page)
        fate = chance.random()
        charge = stripe.charge_of(page)
        if fate < REFUNDED_SHARE:
            price = int(stripe.object(page)["amount_total"])
            stripe.refund(charge, chance.choice((price, chance.randint(1, price - 1))))
            self.counts["refunds"] += 1
        elif fate < REFUNDED_SHARE + DISPUTED_SHARE:
            dispute = stripe.open_dispute(charge)
            stripe.close_dispute(dispute["id"], chance.choice(("won", "lost")))
            self.counts["disputes"] += 1

    def _disturb(self, method: str, chance: random.Random) -> None:
        """Hold webhooks back and release them shuffled, delay, double and repeat them."""
        provider = self._provider(method)
        while not self._over.wait(chance.uniform(*DISTURBANCE_PAUSE)):
            provider.clear_rules()
            provider.release("shuffled", seed=chance.randrange(1000))
            rule = chance.choice(("hold", "delay", "duplicate", "repeat"))
            if rule == "hold":
                provider.set_rule("hold")
            elif rule == "delay":
                provider.set_rule("delay", seconds=chance.uniform(0.5, 4.0))
            elif rule == "duplicate":
                provider.set_rule("duplicate", copies=chance.randint(2, 4))
            else:
                self._repeat(provider, chance)

    def _repeat(self, provider: Any, chance: random.Random) -> None:
        sent = [message["id"] for message in provider.messages() if message["attempts"]]
        for message_id in chance.sample(sent, min(3, len(sent))):
            copies = chance.randint(1, 4)
            try:
                provider.deliver(message_id, copies)
            except SandboxError:
                continue
            self.counts["webhooks repeated"] += copies


def _signed_in(scene: Scene) -> list[Browser]:
    browsers = []
    for account in scene.buyers:
        browser = Browser(scene.gateway.url)
        if browser.sign_in(account.key) != 303:
            raise UnexpectedPage("the dashboard does not open")
        browsers.append(browser)
    return browsers
