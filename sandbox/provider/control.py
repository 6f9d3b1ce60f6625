"""The control routes under ``/__sim`` that both stand-ins have."""

from collections.abc import Callable
from typing import Any

import orjson

from sandbox.provider.faults import Faults
from sandbox.provider.http import Answer, Request, Routes, json_answer
from sandbox.provider.messages import Signed
from sandbox.provider.records import Records
from sandbox.provider.sender import Sender

PREFIX = "/__sim"

Action = Callable[[dict[str, Any]], Any]


class Refused(Exception):
    """A control request that cannot be fulfilled; the message says why."""


def add_action(routes: Routes, name: str, action: Action) -> None:
    """Serve ``/__sim/<name>`` by a function of the JSON body; its result is the answer.

    Refused, ValueError, TypeError and KeyError become a 400 with the message.
    """

    def serve(request: Request) -> Answer:
        try:
            values = orjson.loads(request.body) if request.body else {}
            return json_answer(action(values))
        except (Refused, ValueError, TypeError) as error:
            return json_answer({"error": str(error)}, 400)
        except KeyError as error:
            return json_answer({"error": f"there is no {error}"}, 400)

    routes.add("POST", f"{PREFIX}/{name}", serve)


def signed_as_json(signed: Signed) -> dict[str, Any]:
    """Return a webhook request as JSON, with its body byte for byte as Latin-1."""
    return {"headers": signed.headers, "body": signed.body.decode("latin-1")}


def add_shared(routes: Routes, sender: Sender, faults: Faults, records: Records) -> None:
    """Add the control routes for faults, webhooks and records."""

    def act(name: str, action: Action) -> None:
        add_action(routes, name, action)

    act("faults", lambda values: faults.add(values))
    act("faults/clear", lambda _: faults.clear())
    act("requests", lambda _: records.list())
    act("rules", lambda values: sender.rules.add(values))
    act("rules/clear", lambda _: sender.rules.clear())
    act("messages", lambda _: sender.messages())
    act("messages/signed", lambda v: signed_as_json(sender.message(v["id"]).build(1)))
    act("messages/deliver", lambda v: sender.deliver(v["id"], v["copies"]))
    act("messages/release", lambda v: sender.release(v["order"], v["seed"]))
    act("attempts", lambda _: sender.attempts())
    act("active", lambda _: sender.active)
