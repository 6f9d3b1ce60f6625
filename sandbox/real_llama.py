"""A real llama-server with the tiny model, for tests that compare the simulator with it."""

import os
from pathlib import Path

import urllib3

from sandbox import process
from sandbox.ports import free_port
from sandbox.process import Child, SandboxError
from sandbox.tiny_model import LAYERS, write_tiny_model

BINARY_VARIABLE = "LLAMA_SERVER_BINARY"
DEFAULT_VERSION = "0.3.36"  # as in scripts/build-llama-server.sh
START_TIMEOUT_SECONDS = 30.0
REASONING_BUDGET_TOKENS = 6


def find_binary() -> Path | None:
    """Return the llama-server to use, or None if none was built.

    LLAMA_SERVER_BINARY overrides the place where scripts/build-llama-server.sh puts it.
    """
    named = os.environ.get(BINARY_VARIABLE)
    if named:
        return Path(named)
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("PROMPTLY_CACHE") or user_cache / "promptly")
    version = os.environ.get("LLAMA_CPP_PYTHON_VERSION", DEFAULT_VERSION)
    binary = cache / f"llama-server-{version}"
    return binary if os.access(binary, os.X_OK) else None


class RealLlama(Child):
    """A llama-server process on a free port of 127.0.0.1, with ``slots`` of ``ctx`` tokens each.

    Thinking is off unless a request sets ``chat_template_kwargs: {"enable_thinking": true}``.
    ``logit_bias: [["<tool_call>", 25]]`` together with ``tool_choice: "required"`` makes the
    model start a tool call at once. More ``layers`` make the model slower. ``arguments`` are
    appended to the command line.
    """

    def __init__(
        self,
        directory: Path,
        *,
        slots: int = 2,
        ctx: int = 4096,
        alias: str = "tiny",
        api_key: str = "",
        layers: int = LAYERS,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self.log = directory / "llama-server.log"
        self.slots = slots
        self.ctx = ctx
        self.alias = alias
        self.api_key = api_key
        self._layers = layers
        self._arguments = arguments
        self._binary = find_binary()

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server and return when its model is loaded.

        Raises SandboxError if there is no binary, or with the end of the log if startup fails.
        """
        if self._binary is None:
            raise SandboxError(
                f"no llama-server: run scripts/build-llama-server.sh or set {BINARY_VARIABLE}"
            )
        self.directory.mkdir(parents=True, exist_ok=True)
        model = self.directory / "tiny.gguf"
        if not model.exists():
            write_tiny_model(model, layers=self._layers)
        self._process = process.spawn(self._command(model), log=self.log)
        try:
            process.wait_until(self._is_ready, START_TIMEOUT_SECONDS, "llama-server")
        except SandboxError as error:
            self.stop()
            raise SandboxError(f"{error}\n{process.tail(self.log)}") from error

    def stop(self) -> None:
        self._end()

    def restart(self) -> None:
        """Restart at the same URL."""
        self.stop()
        self.start()

    def _command(self, model: Path) -> list[str | Path]:
        command: list[str | Path] = [self._binary or "llama-server", "-m", model]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--alias", self.alias]
        command += ["-np", str(self.slots), "-c", str(self.slots * self.ctx)]
        command += ["--threads", "1", "--metrics", "--no-ui"]
        command += ["--reasoning-budget", str(REASONING_BUDGET_TOKENS)]
        command += ["--chat-template-kwargs", '{"enable_thinking":false}']
        if self.api_key:
            command += ["--api-key", self.api_key]
        return [*command, *self._arguments]

    def _is_ready(self) -> bool:
        if not self.is_running:
            raise SandboxError("llama-server ended at once")
        try:
            answer = urllib3.request("GET", f"{self.url}/health", retries=False, timeout=2.0)
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status == 200


class RealRouter(RealLlama):
    """A llama-server in router mode: the tiny model under several names, none of them loaded."""

    def __init__(self, directory: Path, models: tuple[str, ...], *, ctx: int = 4096) -> None:
        super().__init__(directory, ctx=ctx)
        self._folder = directory / "models"
        self._models = models

    def start(self) -> None:
        """Start the router; raises as `RealLlama.start`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for name in self._models:
            write_tiny_model(self._folder / f"{name}.gguf")
        super().start()

    def _command(self, model: Path) -> list[str | Path]:
        command = super()._command(model)
        for option in ("-m", "--alias"):
            place = command.index(option)
            del command[place : place + 2]
        return [*command, "--models-dir", self._folder]
