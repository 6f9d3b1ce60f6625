"""The shipped systemd units, run by hand below another root, and stand-ins for systemd's programs.

It starts exactly the commands of `deploy/systemd`, with their environment and working folder, and
stops them with the same signals. It does not sandbox them.
"""

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self

from sandbox import process
from tests.support.servers import PROJECT

UNITS = PROJECT / "deploy" / "systemd"
# The folders of an installation, which lie below `root` here.
INSTALLED = re.compile(r"(?<![\w.])/(?=(?:opt|etc|run|var/lib)/promptly\b)")
RELEASED = ("promptly", "migrations", "templates", "static", "docs")
RELEASED_FILES = ("wsgi.py", "gunicorn.conf.py", "celeryconfig.py")

CLIENT = """\
#!{python}
import json, socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({socket!r})
    with connection.makefile("rw") as stream:
        stream.write(json.dumps(sys.argv[1:]) + "\\n")
        stream.flush()
        code, printed = json.loads(stream.readline())
print(printed, end="")
sys.exit(code)
"""


def read_unit(name: str) -> dict[str, list[str]]:
    """Return a unit's directives with all values of each, `%i` replaced; drop-ins included."""
    prefix, _, instance = name.removesuffix(".service").partition("@")
    file = UNITS / (f"{prefix}@.service" if instance else name)
    found: dict[str, list[str]] = {}
    for path in [file, *sorted((UNITS / "promptly-.service.d").glob("*.conf"))]:
        for line in path.read_text().splitlines():
            if "=" in line and not line.startswith("#"):
                key, _, value = line.partition("=")
                found.setdefault(key, []).append(value.replace("%i", instance))
    return found


class Systemd:
    """Starts and stops units for the `systemctl` that it puts into `programs`."""

    def __init__(self, *, ignored: tuple[str, ...] = ()) -> None:
        self.root = process.temporary_socket_directory()
        self.programs = self.root / "bin"
        self.ignored = ignored
        self.enabled: set[str] = set()
        self.stopped_at: dict[str, float] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._control = socket.socket(socket.AF_UNIX)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        for folder in ("bin", "etc/promptly", "run/promptly", "var/lib/promptly"):
            (self.root / folder).mkdir(parents=True)
        path = str(self.root / "systemctl.sock")
        self._control.bind(path)
        self._control.listen()
        for name, script in (
            ("systemctl", CLIENT.format(python=sys.executable, socket=path)),
            ("journalctl", f'#!/bin/sh\ntail --lines=40 "{self.root}/log/$2"\n'),
            ("runuser", '#!/bin/sh\nshift 3\nexec "$@"\n'),
        ):
            (self.programs / name).write_text(script)
            (self.programs / name).chmod(0o755)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for child in self.processes.values():
            process.stop(child, (signal.SIGQUIT, 10.0))
        # Wakes the thread, which closing alone would not.
        self._control.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._control.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def configure(self, variables: dict[str, str]) -> None:
        """Write the operator's environment file."""
        lines = [f"{name}={value}\n" for name, value in variables.items()]
        (self.root / "etc/promptly/promptly.env").write_text("".join(lines))

    def install(self, version: str, *, migrations: Path = PROJECT / "migrations") -> None:
        """Create a release that consists of links to this project and its environment."""
        release = self.root / "opt/promptly/releases" / version
        release.mkdir(parents=True)
        for name in (*RELEASED, *RELEASED_FILES):
            (release / name).symlink_to(migrations if name == "migrations" else PROJECT / name)
        (release / ".env").symlink_to(self.root / "etc/promptly/promptly.env")
        (release / ".venv").symlink_to(sys.prefix)
        (release / ".installed").touch()

    def log(self, unit: str) -> str:
        return (self.root / "log" / unit).read_text(errors="replace")

    def is_running(self, unit: str) -> bool:
        return unit in self.processes and self.processes[unit].poll() is None

    def start(self, unit: str) -> int:
        """Start a unit that does not run; return the exit code of a oneshot unit, else 0."""
        if unit in self.ignored or self.is_running(unit):
            return 0
        found = read_unit(unit)
        [command], [folder] = found["ExecStart"], found["WorkingDirectory"]
        child = process.spawn(
            shlex.split(self._below_root(command)),
            log=self.root / "log" / unit,
            env=self._environment(found),
            cwd=Path(self._below_root(folder)),
        )
        if found.get("Type") == ["oneshot"]:
            return child.wait()
        self.processes[unit] = child
        self.stopped_at.pop(unit, None)
        return 0

    def stop(self, unit: str, *, wait: bool = True) -> None:
        if not self.is_running(unit):
            return
        if unit not in self.stopped_at:
            # Once only: systemd sends no second SIGTERM to a unit that is stopping.
            self.stopped_at[unit] = time.monotonic()
            self.processes[unit].terminate()
        if wait:
            self.processes[unit].wait()

    def _environment(self, found: dict[str, list[str]]) -> dict[str, str]:
        lines = [self._below_root(value) for value in found["Environment"]]
        for file in found["EnvironmentFile"]:
            lines += Path(self._below_root(file)).read_text().splitlines()
        variables = dict(line.split("=", 1) for line in lines)
        return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.root), **variables}

    def _below_root(self, text: str) -> str:
        return INSTALLED.sub(f"{self.root}/", text)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._control.accept()
            except OSError:
                return
            with connection, connection.makefile("rw") as stream:
                try:
                    answer = self._command(*json.loads(stream.readline()))
                except Exception as problem:
                    answer = (1, f"{problem!r}\n")
                stream.write(json.dumps(answer) + "\n")
                stream.flush()

    def _command(self, verb: str, *arguments: str) -> tuple[int, str]:
        options = {argument for argument in arguments if argument.startswith("--")}
        units = [argument for argument in arguments if argument.endswith(".service")]
        if verb == "list-units":
            return 0, self._listed(arguments[-1].rstrip("*"))
        code = 0
        for unit in units:
            if verb == "enable":
                self.enabled.add(unit)
            if verb == "disable":
                self.enabled.discard(unit)
            if verb == "start" or "--now" in options:
                code = code or self.start(unit)
            if verb == "stop":
                self.stop(unit, wait="--no-block" not in options)
        return code, ""

    def _listed(self, prefix: str) -> str:
        lines = [
            f"{unit} loaded {'deactivating' if unit in self.stopped_at else 'active'}\n"
            for unit in self.processes
            if unit.startswith(prefix) and self.is_running(unit)
        ]
        return "".join(lines)
