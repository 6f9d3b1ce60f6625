"""One run: load, purchases and faults, then a drain, then the evidence."""

import time
from collections import Counter
from contextlib import ExitStack

import orjson

from prove import evidence
from prove.drain import drain
from prove.evidence import Evidence
from prove.faults import CELERY_KILLED, WORKER_KILLED, Faults, plan
from prove.load import Load, Request
from prove.payments import Payments
from prove.scene import Scene
from prove.watch import Watch
from sandbox.process import SandboxError


class Run:
    """One run: the scene under load and faults."""

    def __init__(self, scene: Scene, seconds: float, seed: int) -> None:
        self._scene = scene
        self._seconds = seconds
        self._seed = seed
        self._started = time.monotonic()
        self._faults = Faults(scene, seed)
        self.traffic = ""

    def run(self) -> Evidence:
        """Do everything, and return what it has left."""
        with ExitStack() as stack:
            watch = stack.enter_context(Watch(self._scene.stack.database_url))
            payments = stack.enter_context(Payments(self._scene, self._seed))
            load = stack.enter_context(
                Load(self._scene.gateway.port, self._scene.clients, self._seed)
            )
            self._break(load, payments)
            self._say(
                "draining: running requests end, webhooks arrive, dead requests are recovered"
            )
            requests = load.finish()
            payments.finish()
            drain(self._scene, self._say)
            done = ", ".join(f"{number:,} {name}" for name, number in payments.counts.items())
            self.traffic = f"{_ends(load)}; {done}"
        return self._evidence(requests, watch)

    def _break(self, load: Load, payments: Payments) -> None:
        """Do faults until the time is up and each kind was done."""
        started = time.monotonic()
        for number, (kind, calm, away) in enumerate(plan(self._faults.kinds, self._seed)):
            passed = time.monotonic() - started
            is_repeated = number >= len(self._faults.kinds)
            if is_repeated and passed + calm > self._seconds:
                break
            # Events that a killed Celery worker was handling wait four minutes for another one.
            if is_repeated and kind == CELERY_KILLED and passed > self._seconds / 2:
                continue
            time.sleep(calm)
            fault = self._faults.do(kind, away)
            load.check()
            payments.check()
            seconds = fault.back_at - fault.at
            self._say(f"{kind}, back after {seconds:.1f} s; so far {_ends(load)}")

    def _evidence(self, requests: list[Request], watch: Watch) -> Evidence:
        scene = self._scene
        records = [record for server in scene.llamas for record in server.requests()]
        verified = scene.gateway.run_flask("ledger", "verify", "--json")
        if verified.returncode not in (0, 1):
            raise SandboxError(f"flask ledger verify failed:\n{verified.stderr[-2000:]}")
        differences = len(orjson.loads(verified.stdout)["differences"])
        found = evidence.from_books(scene.books, requests, records, scene.opening, differences)
        found.payments = [
            *evidence.stripe_payments(scene.stripe.truth()),
            *evidence.btcpay_payments(scene.btcpay.truth()),
        ]
        for name, provider in (("stripe", scene.stripe), ("btcpay", scene.btcpay)):
            found.sent |= {(name, message["id"]) for message in provider.messages()}
        found.worker_kills = [
            fault.at for fault in self._faults.done if fault.kind == WORKER_KILLED
        ]
        found.looks, found.overdrawn = watch.looks, watch.overdrawn
        return found

    def faults_done(self) -> str:
        """Return how often each fault was done."""
        kinds = Counter(fault.kind for fault in self._faults.done)
        return ", ".join(f"{kind}: {number}" for kind, number in kinds.items())

    def _say(self, line: str) -> None:
        print(f"{time.monotonic() - self._started:5.0f} s  {line}", flush=True)


def _ends(load: Load) -> str:
    ends = load.ends()
    shown = {"whole": "answered in full", "left": "left", "broken": "broken off"}
    parts = [f"{ends[end]:,} {words}" for end, words in shown.items()]
    return f"{ends.total():,} requests: {', '.join(parts)}, {ends['refused']:,} refused"
