"""``make run``: the whole product on one machine, with stand-ins for unconfigured services.

Everything lives in ``.promptly/`` of the current folder: data, logs, mail, secrets. Variables
in the environment and in ``.env`` take precedence over the embedded services.
"""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import urllib3

from sandbox import migrations, process, variables
from sandbox.process import SandboxError
from sandbox.progress import step
from sandbox.services import Services
from sandbox.supervisor import Supervisor

DEFAULT_PORT = 8503
READY_TIMEOUT_SECONDS = 120.0
MIGRATE_TIMEOUT_SECONDS = 300.0
PORT_PATIENCE_SECONDS = 5.0
# Ctrl-C should not wait for long streams, nor for the idle connections of a browser.
DRAIN_SECONDS = 2
# In addition to DRAIN_SECONDS, for ending requests and settling them.
END_SECONDS = 25.0
WORKER_SECONDS = 30.0


class Product:
    """One ``make run`` in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / ".promptly"
        self.logs = self.state / "log"
        self.supervisor = Supervisor()
        self.configured = variables.configured(folder)
        self.port = self._port()
        self.runtime: dict[str, str] = {}

    @property
    def url(self) -> str:
        """Base URL of the gateway on this machine."""
        return f"http://127.0.0.1:{self.port}"

    def run(self) -> None:
        """Start everything, announce it, and block until asked to stop.

        Raises SandboxError, with everything stopped, if a part cannot be started or ends.
        """
        self._make_state()
        with self._locked():
            self._check_port()
            self.supervisor.listen_to_signals()
            try:
                if self._start():
                    print(self._announcement(), flush=True)
                    self.supervisor.watch()
                print("stopping (press Ctrl-C again to stop at once) ...", flush=True)
            finally:
                self.supervisor.stopping.set()
                self.supervisor.stop_all()
                (self.state / "runtime.env").unlink(missing_ok=True)

    def _make_state(self) -> None:
        """Create ``.promptly/`` with mode 0700. Raises SandboxError if it is not writable."""
        try:
            self.state.mkdir(mode=0o700, exist_ok=True)
            self.logs.mkdir(exist_ok=True)
            writable = os.access(self.state, os.R_OK | os.W_OK | os.X_OK)
        except PermissionError:
            writable = False
        if not writable:
            raise SandboxError(
                f"{self.state} is not writable. If another user created it (root, with sudo make "
                "run), run as that user or delete it; if its parent is read-only, run elsewhere"
            )

    def _start(self) -> bool:
        """Start all parts; False if asked to stop before all of them were ready."""
        self.runtime = variables.kept_secrets(self.state / "secrets.env")
        self.runtime |= {"GATEWAY_PORT": str(self.port), "BASE_URL": self.url}
        self.runtime["DRAIN_SECONDS"] = str(DRAIN_SECONDS)
        services = Services(self.state, self.logs, self.supervisor, self.configured, self.url)
        if not services.start():
            return False
        self.runtime |= services.found
        # The command line in the same folder uses this run's configuration too.
        variables.write_private(self.state / "runtime.env", self.runtime | self.configured)
        if not migrations.is_at_head(self.folder, (self.runtime | self.configured)["DATABASE_URL"]):
            self._migrate()
        return self._start_processes()

    def _migrate(self) -> None:
        log = self.logs / "migrate.log"
        log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "flask", "--app", "wsgi", "db", "upgrade"]
        with step("upgrading the database"):
            environment = variables.child_environment()
            child = process.spawn(command, log=log, cwd=self.folder, env=environment)
            try:
                status = child.wait(MIGRATE_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                status = child.wait()
        if status != 0:
            raise SandboxError(f"the database migration failed:\n{process.tail(log, 40)}")

    def _start_processes(self) -> bool:
        """Start promptly's own processes, to be stopped in reverse; False if asked to stop."""
        celery = [sys.executable, "-m", "celery", "--quiet", "-A", "wsgi:celery"]
        worker = [*celery, "worker", f"--hostname=promptly-{self.port}@%h"]
        self._start_process("worker", worker, WORKER_SECONDS)
        gunicorn = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
        drain_seconds = float(self.configured.get("DRAIN_SECONDS", DRAIN_SECONDS))
        self._start_process("web", gunicorn, drain_seconds + END_SECONDS)
        with step("starting the workers"):
            ready = self.supervisor.wait_until(
                self._is_ready, READY_TIMEOUT_SECONDS, "/health/ready"
            )
        # Start beat last: on a small machine its imports would delay the first page.
        schedule = f"--schedule={self.state / 'celerybeat-schedule'}"
        if ready:
            beat = [*celery, "beat", schedule, "--pidfile="]
            self._start_process("beat", beat, WORKER_SECONDS)
        return ready

    def _start_process(self, name: str, command: list[str], timeout_seconds: float) -> None:
        self.supervisor.start_process(
            name,
            command,
            log=self.logs / f"{name}.log",
            cwd=self.folder,
            env=variables.child_environment(),
            timeout_seconds=timeout_seconds,
            # If we die, PostgreSQL and Redis die too, so there is no point in draining.
            death_signal=signal.SIGQUIT,
        )

    def _is_ready(self) -> bool:
        try:
            # A kept-alive connection would delay the web server's shutdown.
            answer = urllib3.request(
                "GET",
                f"{self.url}/health/ready",
                headers={"Connection": "close"},
                retries=False,
                timeout=5.0,
            )
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status == 200

    def _port(self) -> int:
        given = self.configured.get("GATEWAY_PORT", str(DEFAULT_PORT))
        if not given.isdecimal() or not 0 < int(given) < 65536:
            raise SandboxError(f"GATEWAY_PORT must be a port number, not {given!r}")
        return int(given)

    def _check_port(self) -> None:
        bind = self.configured.get("GATEWAY_BIND", "127.0.0.1")
        # After a crash of ours, leftover children may hold the port for a moment.
        left_behind = (self.state / "runtime.env").exists()
        deadline = time.monotonic() + (PORT_PATIENCE_SECONDS if left_behind else 0.0)
        while True:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((bind, self.port))
                    return
                except OSError as error:
                    if time.monotonic() > deadline:
                        raise SandboxError(
                            f"cannot listen on {bind}:{self.port}: {error.strerror}. Stop the "
                            "process using it, or choose another port: GATEWAY_PORT=8510 make run"
                        ) from error
            time.sleep(0.1)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the folder against a second run; SandboxError if one is active."""
        with (self.state / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                lock.seek(0)
                raise SandboxError(
                    f"make run is already running in this folder (process {lock.read().strip()})"
                ) from error
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            yield

    def _announcement(self) -> str:
        admin_key = self.configured.get("ADMIN_KEY", self.runtime["ADMIN_KEY"])
        lines = [
            "",
            f"promptly is ready: {self.url}",
            "",
            "Register:",
            f"  curl -d email=you@example.com {self.url}/register",
        ]
        if "SMTP_HOST" in self.configured:
            lines += [f"Mail is sent through {self.configured['SMTP_HOST']}. With the key from it:"]
            key = "$KEY"
        else:
            lines += ["Mail is saved to .promptly/mail/*.eml. With the key from it:"]
            key = "$(grep -ohE 'sk-[0-9A-Za-z]{46}' .promptly/mail/*.eml | tail -n 1)"
        lines += [
            f"  curl {self.url}/v1/chat/completions \\",
            "    -H 'Content-Type: application/json' \\",
            f'    -H "Authorization: Bearer {key}" \\',
            """    -d '{"messages": [{"role": "user", "content": "Hello!"}]}'""",
            *self._about_payments(),
            f"Admin: {self.url}/admin?key={admin_key}",
            "Logs:  .promptly/log/",
            "Stop:  Ctrl-C",
            "",
        ]
        return "\n".join(lines)

    def _about_payments(self) -> list[str]:
        """Return the line that names the simulated providers, which move no money."""
        simulated = [
            provider
            for provider, name in (("Stripe", "STRIPE_SECRET_KEY"), ("BTCPay Server", "BTCPAY_URL"))
            if name not in self.configured
        ]
        return [f"Payments are simulated: {' and '.join(simulated)}"] if simulated else []


def main() -> int:
    """Run in the current folder and return the exit code."""
    try:
        Product(Path.cwd()).run()
    except (SandboxError, OSError) as error:
        print(f"promptly: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
