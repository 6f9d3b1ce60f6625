"""Stripe's API: authentication, calls and their answers."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from sandbox.provider.control import Refused
from sandbox.provider.faults import Fault, Faults
from sandbox.provider.http import Answer, Request, Routes, json_answer
from sandbox.stripe import calls, checkout, lists, permissions, reversals
from sandbox.stripe.account import Account
from sandbox.stripe.errors import ApiError
from sandbox.stripe.idempotency import REPLAYED, Idempotency
from sandbox.stripe.ids import new_id
from sandbox.stripe.objects import API_VERSION, Object
from sandbox.stripe.parameters import Fields, decode

VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(\.\w+)?")

Call = Callable[[Request, dict[str, Any]], Object]


class Api:
    """All calls below ``/v1``."""

    def __init__(self, account: Account, faults: Faults) -> None:
        self.account = account
        self.faults = faults
        self.keys = Idempotency()
        self._routes = Routes()
        self._add_calls()

    def handle(self, request: Request, record: dict[str, Any]) -> Answer:
        """Answer a call. Raises Cut if a fault suppresses the answer."""
        request_id = new_id("req_")
        key = request.headers.get("idempotency-key", "") if request.method == "POST" else ""
        record |= {"request_id": request_id, "idempotency_key": key}
        fault = self.faults.take(request)
        call = self.account.call
        call.request_id, call.idempotency_key = request_id, key or None
        try:
            answer = self._answer(request, key, fault)
        finally:
            call.request_id = call.idempotency_key = None
        version = request.headers.get("stripe-version", API_VERSION)
        answer.headers |= {"Request-Id": request_id, "Stripe-Version": version}
        if key:
            answer.headers["Idempotency-Key"] = key
        record["replayed"] = REPLAYED in answer.headers
        return answer

    def _answer(self, request: Request, key: str, fault: Fault | None) -> Answer:
        try:
            self._check_headers(request)
        except ApiError as error:
            return error.answer()
        if fault is not None and fault.kept and key:
            return self._keep_fault(request, key, fault)
        return self.faults.serve(fault, request, lambda asked: self._once(asked, key))

    def _once(self, request: Request, key: str) -> Answer:
        try:
            if not key:
                return self._work(request)
            return self.keys.once(key, request.path, request.body, lambda: self._work(request))
        except ApiError as error:
            return error.answer()

    def _keep_fault(self, request: Request, key: str, fault: Fault) -> Answer:
        """Fail in mid-execution: the key stores the failure, and a header says not to retry."""
        answer = self.faults.serve(fault, request, lambda asked: self._once(asked, key))
        answer.headers["Stripe-Should-Retry"] = "false"
        self.keys.keep(key, request.path, request.body, answer)
        return answer

    def _work(self, request: Request) -> Answer:
        found = self._routes.find(request)
        if found is None:
            raise ApiError(
                f"Unrecognized request URL ({request.method}: {request.path}).", status=404
            )
        with self.account.lock:
            try:
                return found(request)
            except Refused as refusal:
                raise ApiError(str(refusal), executed=True) from None
            except ApiError as error:
                if not error.executed:
                    raise
                return error.answer()

    def _check_headers(self, request: Request) -> None:
        given = request.headers.get("authorization", "")
        scheme, _, key = given.partition(" ")
        if scheme != "Bearer" or not key:
            raise ApiError("You did not provide an API key.", status=401)
        if key != self.account.secret_key:
            raise ApiError(f"Invalid API Key provided: {key[:8]}****{key[-4:]}", status=401)
        needed = permissions.needed(request.method, request.path)
        if not permissions.may(self.account.permissions, needed):
            raise ApiError(
                f"The provided key '{key[:8]}****{key[-4:]}' does not have the required "
                f"permissions. Having '{needed}' would allow this request to continue.",
                status=403,
            )
        version = request.headers.get("stripe-version", API_VERSION)
        if not VERSION.fullmatch(version):
            raise ApiError(f"Invalid Stripe API version: {version}")

    def _add_calls(self) -> None:
        account = self.account
        sessions, refunds = "/v1/checkout/sessions", "/v1/refunds"
        self._add(
            "POST", sessions, calls.CREATE_SESSION, lambda _, given: checkout.create(account, given)
        )
        self._add_lookups("checkout.session", sessions, calls.LIST_SESSIONS)
        self._add(
            "POST",
            f"{sessions}/{{id}}/expire",
            calls.ONLY_EXPAND,
            lambda asked, _: checkout.expire(account, asked.values["id"]),
        )
        self._add(
            "POST", refunds, calls.CREATE_REFUND, lambda _, given: reversals.refund(account, given)
        )
        self._add_lookups("refund", refunds, calls.LIST_REFUNDS)
        self._add_lookups("event", "/v1/events", calls.LIST_EVENTS)
        self._add_lookups("charge", "/v1/charges", calls.LIST_CHARGES)
        self._add_lookups("payment_intent", "/v1/payment_intents", calls.LIST_PAYMENT_INTENTS)
        self._add_lookups("dispute", "/v1/disputes", calls.LIST_DISPUTES)
        warnings = "/v1/radar/early_fraud_warnings"
        self._add_lookups("radar.early_fraud_warning", warnings, calls.LIST_FRAUD_WARNINGS)

    def _add(self, method: str, path: str, fields: Fields, call: Call) -> None:
        def serve(request: Request) -> Answer:
            params = _parameters(request, fields)
            return json_answer(lists.shown(self.account, call(request, params), params))

        self._routes.add(method, path, serve)

    def _add_lookups(self, kind: str, path: str, filters: Fields) -> None:
        """Add the retrieval of one object, and the list of all."""

        def list_all(request: Request) -> Answer:
            params = _parameters(request, filters)
            return json_answer(lists.page(self.account, kind, path, params))

        self._routes.add("GET", path, list_all)
        self._add(
            "GET",
            f"{path}/{{id}}",
            calls.ONLY_EXPAND,
            lambda asked, _: self.account.get(kind, asked.values["id"]),
        )


def _parameters(request: Request, fields: Fields) -> dict[str, Any]:
    """Return the validated parameters of a call. Raises ApiError naming the first invalid one."""
    if request.method == "GET":
        return fields("", decode(request.query))
    return fields("", decode(parse_qsl(request.body.decode(), keep_blank_values=True)))
