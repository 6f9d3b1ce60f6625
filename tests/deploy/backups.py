"""A release with deploy/backup.sh and deploy/restore.sh, and the programs in their PATH."""

import os
import subprocess
import sys
from pathlib import Path

from sandbox import postgres_places
from tests.support.servers import PROJECT, VARIABLES

LINKED = ("deploy", "promptly", "migrations", "templates", "static", "docs")
LINKED_FILES = ("wsgi.py", "celeryconfig.py")
PROGRAMS = ("pg_dump", "pg_restore", "psql")
# As far as the scripts use Compose, with the PostgreSQL that PGHOST names in place of `db`.
DOCKER = """
case "$*" in
  "compose exec -T db "*) shift 4; exec "$@" ;;
  "compose run --rm --no-deps -T migrate "*) shift 6; exec ".venv/bin/$@" ;;
esac
exit 64
"""


class Release:
    """Links to this project's files in a folder of its own, with a `.env`."""

    def __init__(self, folder: Path, database_url: str, **variables: str) -> None:
        self.folder = folder / "release"
        self.folder.mkdir()
        for name in (*LINKED, *LINKED_FILES):
            (self.folder / name).symlink_to(PROJECT / name)
        (self.folder / ".venv").symlink_to(sys.prefix)
        complete = VARIABLES | {"DATABASE_URL": database_url}
        lines = [f"{name}='{value}'\n" for name, value in complete.items()]
        (self.folder / ".env").write_text("".join(lines))
        self.backups = folder / "backups"
        self._programs = folder / "bin"
        self._programs.mkdir()
        self._variables = variables

    def program(self, name: str, script: str) -> None:
        """Put a shell script into PATH; `$REAL` is PostgreSQL's program of this name, if any."""
        real = postgres_places.programs(None) / name
        path = self._programs / name
        path.write_text(f"#!/bin/sh\nREAL={real}\n{script}\n")
        path.chmod(0o755)

    def use_real_programs(self) -> None:
        for name in PROGRAMS:
            self.program(name, 'exec "$REAL" "$@"')
        self.program("docker", DOCKER)

    def start(self, script: str, *arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
        """Start one of the scripts, its output and errors in one pipe."""
        return subprocess.Popen(
            [self.folder / "deploy" / script, *arguments],
            env={
                "PATH": f"{self._programs}:{os.environ['PATH']}",
                **self._variables,
                **variables,
            },
            cwd=self.folder.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, script: str, *arguments: str | Path, code: int = 0, **variables: str) -> str:
        """Run one of the scripts with this exit code, and return its output."""
        started = self.start(script, *arguments, **variables)
        printed, _ = started.communicate(timeout=120)
        assert started.returncode == code, printed
        return printed

    def back_up(self, method: str = "url", *, code: int = 0, **variables: str) -> str:
        return self.run("backup.sh", method, self.backups, code=code, **variables)

    def files(self) -> set[str]:
        """Return the names of all files in the folder of backups, hidden ones included."""
        return {path.name for path in self.backups.iterdir()}

    def dump(self) -> Path:
        """Return the only backup."""
        [path] = self.backups.glob("promptly-*.dump")
        return path
