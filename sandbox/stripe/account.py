"""A Stripe account: its objects, its events, and the endpoints that receive them."""

import copy
import threading
from typing import Any

from sandbox.provider.simulated import Simulated
from sandbox.stripe import ids, webhooks
from sandbox.stripe.errors import missing
from sandbox.stripe.objects import API_VERSION, Object
from sandbox.stripe.webhooks import Endpoint

# Stripe's name of each kind of object, and of the parameter, in errors about unknown ids.
NAMES = {
    "checkout.session": ("checkout session", "session"),
    "payment_intent": ("payment_intent", "intent"),
    "charge": ("charge", "charge"),
    "refund": ("refund", "refund"),
    "dispute": ("dispute", "dispute"),
    "event": ("event", "id"),
    "radar.early_fraud_warning": ("early fraud warning", "early_fraud_warning"),
}


class Account(Simulated):
    """Everything that one secret key can access."""

    def __init__(self, secret_key: str) -> None:
        super().__init__()
        self.secret_key = secret_key
        self.livemode = "_live_" in secret_key[:8]
        self.objects: dict[str, Object] = {}
        # Session data that the API does not show, such as payment_intent_data.
        self.hidden: dict[str, Object] = {}
        self.endpoints: list[Endpoint] = []
        # Settings of the dashboard: tax added by default, in percent; whether a page of terms is
        # known; what a restricted key may do, None for a secret key. They do not outlive it.
        self.default_tax_percent = 0
        self.has_terms = True
        self.permissions: list[str] | None = None
        # The API call being processed, recorded in the events it causes.
        self.call = threading.local()

    def get(self, kind: str, object_id: str) -> Object:
        """Return an object. Raises ApiError (404) if this kind and id do not exist."""
        found = self.objects.get(object_id)
        if found is None or found["object"] != kind:
            raise missing(NAMES[kind][0], object_id, NAMES[kind][1])
        return found

    def every(self, kind: str) -> list[Object]:
        """Return all objects of a kind, newest first."""
        found = [item for item in self.objects.values() if item["object"] == kind]
        found.reverse()
        return sorted(found, key=lambda item: -int(item["created"]))

    def add(self, item: Object) -> Object:
        """Store a new object and return it."""
        self.objects[item["id"]] = item
        return item

    def shown(self, item: Object) -> Object:
        """Return a copy of an object as the API shows it."""
        found = copy.deepcopy(item)
        if found["object"] == "checkout.session" and found["status"] == "open":
            found["url"] = f"{self.base_url}/c/pay/{found['id']}"
        return found

    def emit(self, type: str, item: Object, previous: Object | None = None) -> None:
        """Record an event with the object's current state, and send it to subscribed endpoints."""
        data: Object = {"object": self.shown(item)}
        if previous is not None:
            data["previous_attributes"] = previous
        request = {
            "id": getattr(self.call, "request_id", None),
            "idempotency_key": getattr(self.call, "idempotency_key", None),
        }
        event = {
            "id": ids.new_id("evt_1"),
            "object": "event",
            "api_version": API_VERSION,
            "created": self.now(),
            "data": data,
            "livemode": self.livemode,
            "pending_webhooks": 0,
            "request": request,
            "type": type,
        }
        self.add(event)
        self.changed()
        asked = [endpoint for endpoint in self.endpoints if endpoint.wants(type)]
        event["pending_webhooks"] = len(asked)
        for endpoint in asked:
            assert self.sender is not None
            self.sender.post(webhooks.message(copy.deepcopy(event), endpoint))

    def delivered(self, event_id: str) -> None:
        """Count one more endpoint that has accepted an event."""
        with self.lock:
            event = self.objects.get(event_id)
            if event is not None and event["pending_webhooks"] > 0:
                event["pending_webhooks"] -= 1

    def state(self) -> dict[str, Any]:
        return {"objects": self.objects, "hidden": self.hidden, "seconds": self.advanced_seconds}

    def restore(self, state: dict[str, Any]) -> None:
        self.objects = state.get("objects", {})
        self.hidden = state.get("hidden", {})
        self.advanced_seconds = state.get("seconds", 0)
        self.default_tax_percent, self.has_terms, self.permissions = 0, True, None
