"""A mail server that stores what it receives: ``python -m sandbox.mail --dir D``.

Each mail becomes one file per recipient, ``<time>-<recipient>.eml``, complete as soon as it
appears. ``control.json`` in the same folder lists the refusals to give, so that a test can script
the server's answers from outside.
"""

import argparse
import asyncio
import contextlib
import json
import re
import signal
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, ClassVar

from aiosmtpd.smtp import SMTP, Envelope, Session

from sandbox import process
from sandbox.child_server import LOOPBACK, ChildServer
from sandbox.files import write_atomically

CONTROL_FILE = "control.json"
MAX_MAIL_BYTES = 32 * 1024 * 1024


def file_name(recipient: str) -> str:
    """Return a recipient as it is written in file names."""
    return re.sub(r"[^A-Za-z0-9@._+-]", "_", recipient)


class Keeper:
    """The handler of aiosmtpd: stores mail, or answers as the control file says."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if refusal := self._scripted("rcpt"):
            return refusal
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        if refusal := self._scripted("data"):
            return refusal
        content = envelope.original_content or b""
        for recipient in envelope.rcpt_tos:
            now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
            name = f"{now}-{file_name(recipient)}"
            partial = self._directory / f"{name}.part"
            partial.write_bytes(content)
            partial.rename(self._directory / f"{name}.eml")
        return "250 OK, kept"

    def _scripted(self, stage: str) -> str:
        control = self._directory / CONTROL_FILE
        try:
            script: dict[str, Any] = json.loads(control.read_text())
        except (OSError, ValueError):
            return ""
        if script["stage"] != stage or script["times"] <= 0:
            return ""
        script["times"] -= 1
        write_atomically(control, json.dumps(script))
        return f"{script['code']} simulated refusal"


class MailCatcher(ChildServer):
    """The mail server as a child process; ``stop()`` keeps the mail in ``directory``."""

    module: ClassVar[str] = "sandbox.mail"
    title: ClassVar[str] = "mail catcher"
    host: ClassVar[str] = LOOPBACK

    def __init__(
        self, directory: Path, *, listen_on: str = LOOPBACK, log: Path | None = None
    ) -> None:
        super().__init__(directory, ["--dir", str(directory)], host=listen_on, log=log)

    def fail_with(self, code: int, times: int = 1, *, stage: str = "rcpt") -> None:
        """Answer the next ``times`` commands of a stage ("rcpt" or "data") with this code."""
        script = {"code": code, "times": times, "stage": stage}
        write_atomically(self.directory / CONTROL_FILE, json.dumps(script))

    def messages(self, recipient: str = "") -> list[EmailMessage]:
        """Return the mails stored so far, oldest first: all, or those to one address."""
        found = []
        for path in sorted(self.directory.glob("*.eml")):
            if not recipient or path.stem.split("-", 1)[1] == file_name(recipient):
                found.append(message_from_bytes(path.read_bytes(), policy=policy.default))
        return found

    def wait_for(
        self, recipient: str, timeout_seconds: float = 10.0, *, count: int = 1
    ) -> EmailMessage:
        """Return the newest mail to an address once there are ``count``.

        Raises SandboxError on timeout.
        """
        process.wait_until(
            lambda: len(self.messages(recipient)) >= count, timeout_seconds, f"mail to {recipient}"
        )
        return self.messages(recipient)[-1]

    def clear(self) -> None:
        """Delete all mail and scripted answers."""
        (self.directory / CONTROL_FILE).unlink(missing_ok=True)
        for path in self.directory.glob("*.eml"):
            path.unlink(missing_ok=True)


async def serve(directory: Path, host: str, port: int, port_file: Path | None) -> None:
    """Serve until SIGTERM or SIGINT."""
    directory.mkdir(parents=True, exist_ok=True)
    keeper = Keeper(directory)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(keeper, enable_SMTPUTF8=True, data_size_limit=MAX_MAIL_BYTES),
        host,
        port,
    )
    taken = int(server.sockets[0].getsockname()[1])
    if port_file is not None:
        write_atomically(port_file, f"{taken}\n")
    print(f"mail catcher on {host}:{taken}, mail in {directory}", flush=True)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.mail", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="where mail is kept")
    parser.add_argument("--port", type=int, default=2525, help="0 takes a free one")
    parser.add_argument("--host", default=LOOPBACK, help="address to listen on")
    parser.add_argument("--port-file", type=Path, help="where to write the port once it listens")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments.dir, arguments.host, arguments.port, arguments.port_file))


if __name__ == "__main__":
    main()
