"""The simulated llama-server as a child process of a test or of the supervisor."""

import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import urllib3

from sandbox import process
from sandbox.process import SandboxError

START_TIMEOUT_SECONDS = 15.0


class SimulatedLlama:
    """A simulated llama-server on 127.0.0.1, started with the given options.

    ``embeddings`` enables embeddings of texts of at most ``batch`` tokens. ``speed`` and
    ``prompt_speed`` are tokens per second, 0 for as fast as possible; ``answer_tokens`` is the
    default length of an answer. ``port`` 0 takes a free port, which ``restart()`` keeps.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        port: int = 0,
        slots: int = 4,
        ctx: int = 32768,
        alias: str = "sim-model",
        api_key: str = "",
        speed: float = 0.0,
        prompt_speed: float = 0.0,
        answer_tokens: int = 48,
        ping_interval: float = 30.0,
        embeddings: bool = False,
        batch: int = 512,
        log: Path | None = None,
    ) -> None:
        self.port = port
        self._own_directory = directory is None
        self._directory = directory or Path(tempfile.mkdtemp(prefix="promptly-llama-"))
        self.log = log or self._directory / "llama.log"
        self._options = ["--slots", str(slots), "--ctx", str(ctx), "--alias", alias]
        self._options += ["--speed", str(speed), "--prompt-speed", str(prompt_speed)]
        self._options += ["--answer-tokens", str(answer_tokens)]
        self._options += ["--ping-interval", str(ping_interval)]
        if api_key:
            self._options += ["--api-key", api_key]
        if embeddings:
            self._options += ["--embeddings", "--batch", str(batch)]
        self._process: subprocess.Popen[bytes] | None = None
        self._http = urllib3.PoolManager(
            # The server may close a kept-alive connection just as it is reused.
            retries=urllib3.Retry(3, redirect=0, allowed_methods=None),
            timeout=30.0,
        )

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> "SimulatedLlama":
        """Start the server and return it once it listens. Raises SandboxError otherwise."""
        self._directory.mkdir(parents=True, exist_ok=True)
        port_file = self._directory / "port"
        port_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "sandbox.llama", "--port", str(self.port)]
        command += ["--port-file", str(port_file), *self._options]
        self._process = process.spawn(command, log=self.log)
        try:
            process.wait_until(
                lambda: port_file.exists() or not self.is_running,
                START_TIMEOUT_SECONDS,
                "simulated llama-server",
            )
            self.port = int(port_file.read_text())
        except (SandboxError, FileNotFoundError) as error:
            self._end()
            raise SandboxError(f"no simulated llama-server:\n{process.tail(self.log)}") from error
        return self

    def stop(self) -> None:
        """Stop the server, cutting running requests."""
        self._end()
        self._http.clear()
        if self._own_directory:
            shutil.rmtree(self._directory, ignore_errors=True)

    def restart(self) -> None:
        """Restart on the same port; records are lost."""
        self._end()
        self.start()

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        if self._process is not None:
            process.stop(self._process)
            self._process = None

    def pause(self) -> None:
        """Freeze the server (SIGSTOP)."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume a frozen server (SIGCONT)."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

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

    def clear(self) -> None:
        """Clear faults and forget all records."""
        self._call("DELETE", "/__sim/faults")
        self._call("DELETE", "/__sim/requests")

    def _end(self) -> None:
        if self._process is not None:
            self.resume()
            process.stop(self._process, (signal.SIGTERM, 5.0))
            self._process = None

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = orjson.dumps(body) if body is not None else None
        answer = self._http.request(method, self.url + path, body=data)
        value = orjson.loads(answer.data)
        if answer.status != 200:
            raise SandboxError(f"{path}: {value}")
        return value
