"""The control routes under ``/__sim``: records, faults, scripts, a crash."""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import orjson

from sandbox.llama.faults import Faults
from sandbox.llama.http import Request
from sandbox.llama.records import Records
from sandbox.llama.replies import NOT_FOUND, json_reply
from sandbox.llama.script import Scripts
from sandbox.llama.slots import Slots


class Control:
    """Answers the control routes; ``refuse`` makes the server refuse connections for a while."""

    def __init__(
        self,
        records: Records,
        faults: Faults,
        scripts: Scripts,
        slots: Slots,
        crash_file: Path | None,
        refuse: Callable[[float], None],
    ) -> None:
        self._records = records
        self._faults = faults
        self._scripts = scripts
        self._slots = slots
        self._crash_file = crash_file
        self._refuse = refuse

    def answer(self, request: Request) -> bytes:
        """Return the reply to a request for a control route."""
        match (request.method, request.path):
            case ("GET", "/__sim/requests"):
                return json_reply(self._records.list(request.query.get("tag", "")))
            case ("DELETE", "/__sim/requests"):
                self._records.clear()
                return json_reply({})
            case ("GET", "/__sim/totals"):
                totals = asdict(self._records.totals)
                slots = self._slots
                totals |= {"processing": slots.processing, "deferred": slots.deferred}
                return json_reply(totals)
            case ("POST", "/__sim/faults"):
                return self._set_faults(request)
            case ("DELETE", "/__sim/faults"):
                self._faults.clear()
                return json_reply({})
            case ("POST", "/__sim/script"):
                return self._set_script(request)
            case ("DELETE", "/__sim/script"):
                self._scripts.clear()
                return json_reply({})
            case ("POST", "/__sim/crash"):
                return self._crash()
            case ("DELETE", "/__sim/prompts"):
                self._slots.forget_prompts()
                return json_reply({})
        return NOT_FOUND

    def _crash(self) -> bytes:
        """End the process within this turn of the loop, so that no token follows the records."""
        if self._crash_file is None:
            return json_reply({"error": "started without --crash-file"}, 400)
        self._records.save(self._crash_file)
        os._exit(1)

    def _set_faults(self, request: Request) -> bytes:
        try:
            values = orjson.loads(request.body)
            refuse_seconds = float(values.pop("refuse_s", 0.0))
            self._faults.set(values)
        except (ValueError, TypeError, AttributeError) as error:
            return json_reply({"error": str(error)}, 400)
        if refuse_seconds:
            self._refuse(refuse_seconds)
        return json_reply({})

    def _set_script(self, request: Request) -> bytes:
        try:
            self._scripts.set(orjson.loads(request.body))
        except (ValueError, TypeError, KeyError) as error:
            return json_reply({"error": str(error)}, 400)
        return json_reply({})
