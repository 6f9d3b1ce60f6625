"""PgBouncer in front of an embedded PostgreSQL, with the configuration that we ship."""

import re
import secrets
import shutil
from configparser import ConfigParser
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import psycopg2
from sqlalchemy import make_url

from sandbox import account, process
from sandbox.checkout import ROOT
from sandbox.postgres import EmbeddedPostgres
from sandbox.process import Child, SandboxError

SHIPPED = ROOT / "deploy/kubernetes/base/pgbouncer.ini"
DOCUMENT = ROOT / "docs/operating/README.md"
ROLE = "gateway"
PORT = 6432


def program() -> str | None:
    """Return the path of pgbouncer, or None; Debian installs it outside a user's PATH."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


def documented_settings() -> list[str]:
    """Return the statements that operators are told to run, since PgBouncer drops our options."""
    return re.findall(r"^ALTER ROLE gateway SET .+;$", DOCUMENT.read_text(), re.MULTILINE)


class PgBouncer(Child):
    """PgBouncer on port 6432 of all addresses; its clients sign in as `gateway` with a password.

    The role is created at the first start, with the settings that the documentation asks for.
    """

    stop_seconds: ClassVar[float] = 5.0

    def __init__(self, directory: Path, postgres: EmbeddedPostgres, database: str) -> None:
        self.directory = directory
        self.log = directory / "pgbouncer.log"
        self._postgres = postgres
        self._database = database
        self._password = secrets.token_hex(16)

    def url(self, host: str = "127.0.0.1") -> str:
        """Return the database's URL for clients that reach PgBouncer at this address."""
        return f"postgresql://{ROLE}:{self._password}@{host}:{PORT}/{ROLE}"

    def start(self) -> None:
        """Start PgBouncer; return once it passes a query on."""
        path = program()
        if path is None:
            raise SandboxError("pgbouncer is not installed")
        if not self.directory.exists():
            self.directory.mkdir(parents=True)
            self._create_role()
            self._configure()
        owner = account.server_account(self._postgres.data)
        self._process = process.spawn(
            [path, self.directory / "pgbouncer.ini"],
            log=self.log,
            user=None if owner is None else (owner.uid, owner.gid),
        )
        try:
            process.wait_until(self._answers, 15, "PgBouncer")
        except SandboxError as error:
            self.stop()
            raise SandboxError(f"{error}\n{process.tail(self.log)}") from error

    def stop(self) -> None:
        """End PgBouncer with all its connections."""
        self._end()

    def _create_role(self) -> None:
        with closing(psycopg2.connect(self._postgres.url(self._database))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE ROLE {ROLE} LOGIN IN ROLE postgres")
                for statement in documented_settings():
                    cursor.execute(statement)

    def _configure(self) -> None:
        users = self.directory / "userlist.txt"
        users.write_text(f'"{ROLE}" "{self._password}"\n')
        parser = ConfigParser(comment_prefixes=(";",), interpolation=None)
        parser.read(SHIPPED)
        sockets = make_url(self._postgres.url()).query["host"]
        target = f"host={sockets} port=5432 dbname={self._database}"
        assert parser.has_option("databases", ROLE)
        parser["databases"] = {ROLE: target}
        parser["pgbouncer"]["auth_file"] = str(users)
        assert parser["pgbouncer"]["listen_port"] == str(PORT)
        with (self.directory / "pgbouncer.ini").open("w") as file:
            parser.write(file)

    def _answers(self) -> bool:
        if not self.is_running:
            raise SandboxError("PgBouncer ended at once")
        try:
            with closing(psycopg2.connect(self.url(), connect_timeout=5)) as connection:
                connection.autocommit = True
                connection.cursor().execute("SELECT 1")
        except psycopg2.OperationalError:
            return False
        return True
