"""The simulated llama-server as a child process of a test or of the supervisor."""

import contextlib
import subprocess
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

import orjson
import urllib3

from sandbox import process
from sandbox.child_server import LOOPBACK, ChildServer
from sandbox.process import SandboxError


class SimulatedLlama(ChildServer):
    """A simulated llama-server on 127.0.0.1, started with the given options.

    ``embeddings`` enables embeddings of texts of at most ``batch`` tokens. ``speed`` and
    ``prompt_speed`` are tokens per second, 0 for as fast as possible; a prompt is processed in
    batches of ``prompt_batch`` tokens. ``answer_tokens`` is the default length of an answer.
    Each slot keeps its last prompt; ``cache_ram`` MiB, none by default, keep those that slots
    lose. Without ``shows_slots`` there is no ``/slots``. Records are lost on a restart, but not
    by `crash`. With ``models`` it is a router, whose first ``loaded`` ones are loaded at the start
    and ``models_max`` at a time; the ``broken`` ones never are, loading takes ``load_seconds``.
    """

    module: ClassVar[str] = "sandbox.llama"
    title: ClassVar[str] = "simulated llama-server"

    def __init__(
        self,
        directory: Path | None = None,
        *,
        port: int = 0,
        host: str = LOOPBACK,
        slots: int = 4,
        ctx: int = 32768,
        alias: str = "sim-model",
        api_key: str = "",
        speed: float = 0.0,
        prompt_speed: float = 0.0,
        prompt_batch: int = 2048,
        cache_ram: int = 0,
        shows_slots: bool = True,
        answer_tokens: int = 48,
        ping_interval: float = 30.0,
        embeddings: bool = False,
        batch: int = 512,
        models: tuple[str, ...] = (),
        loaded: int = 0,
        models_max: int = 4,
        load_seconds: float = 0.0,
        broken: tuple[str, ...] = (),
        log: Path | None = None,
    ) -> None:
        options = ["--slots", str(slots), "--ctx", str(ctx), "--alias", alias]
        options += ["--speed", str(speed), "--prompt-speed", str(prompt_speed)]
        options += ["--answer-tokens", str(answer_tokens), "--ping-interval", str(ping_interval)]
        options += ["--prompt-batch", str(prompt_batch), "--cache-ram", str(cache_ram)]
        if not shows_slots:
            options += ["--no-slots"]
        if api_key:
            options += ["--api-key", api_key]
        if models:
            options += ["--models", ",".join(models), "--loaded", str(loaded)]
            options += ["--models-max", str(models_max), "--load-seconds", str(load_seconds)]
            options += ["--broken", ",".join(broken)]
        if embeddings:
            options += ["--embeddings", "--batch", str(batch)]
        super().__init__(directory, options, port=port, host=host, log=log)
        self._options += ["--crash-file", str(self.directory / "records.json")]
        self._http = urllib3.PoolManager(
            # The server may close a kept-alive connection just as it is reused.
            retries=urllib3.Retry(3, redirect=0, allowed_methods=None),
            timeout=30.0,
        )

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Stop the server, cutting running requests."""
        super().stop()
        self._http.clear()

    def crash(self) -> None:
        """End the process at once, as SIGKILL would; after `start` the records are those of before.

        Raises SandboxError if it does not end.
        """
        assert self._process is not None
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            urllib3.request("POST", f"{self.url}/__sim/crash", retries=False, timeout=30.0)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired as error:
            raise SandboxError(f"{self.title} did not crash") from error

    def requests(self, tag: str = "") -> list[dict[str, Any]]:
        """Return the records, oldest first: all, or those with one tag."""
        query = f"?{urlencode({'tag': tag})}" if tag else ""
        records: list[dict[str, Any]] = self._call("GET", f"/__sim/requests{query}")
        return records

    def request(self, tag: str) -> dict[str, Any]:
        """Return the only record with this tag. Raises SandboxError if there is not exactly one."""
        records = self.requests(tag)
        if len(records) != 1:
            raise SandboxError(f"{len(records)} requests with the tag {tag}")
        return records[0]

    def wait_for_end(self, tag: str, timeout_seconds: float = 10.0) -> dict[str, Any]:
        """Return the record with this tag once its request has ended."""

        def ended() -> bool:
            records = self.requests(tag)
            return bool(records) and all(record["ended_at"] for record in records)

        process.wait_until(ended, timeout_seconds, f"the end of {tag}")
        return self.request(tag)

    def totals(self) -> dict[str, Any]:
        """Return the sums over all requests, and the numbers processing and deferred."""
        totals: dict[str, Any] = self._call("GET", "/__sim/totals")
        return totals

    def set_faults(self, **faults: Any) -> None:
        """Steer the next ``times`` requests, or all; ``loading`` and ``refuse_s`` act at once.

        Raises SandboxError for an unknown name.
        """
        self._call("POST", "/__sim/faults", faults)

    def set_script(self, marker: str, *steps: dict[str, Any]) -> None:
        """Answer conversations that contain ``marker`` step by step (``sandbox.llama.script``).

        Raises SandboxError for an invalid step.
        """
        self._call("POST", "/__sim/script", {"marker": marker, "steps": steps})

    def clear(self) -> None:
        """Clear faults and scripts, and forget all records and the prompts in idle slots."""
        self._call("DELETE", "/__sim/faults")
        self._call("DELETE", "/__sim/script")
        self._call("DELETE", "/__sim/requests")
        self._call("DELETE", "/__sim/prompts")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = orjson.dumps(body) if body is not None else None
        answer = self._http.request(method, self.url + path, body=data)
        value = orjson.loads(answer.data)
        if answer.status != 200:
            raise SandboxError(f"{path}: {value}")
        return value
