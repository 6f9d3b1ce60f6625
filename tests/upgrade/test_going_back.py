"""Back to an old release that refuses the newer schema: deploy.sh asks whether it runs on it."""

import subprocess
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from sandbox.checkout import Code
from tests.support.servers import PROJECT, Gateway

pytestmark = [pytest.mark.exhaustive, pytest.mark.git, pytest.mark.network]


def test_an_old_release_runs_on_the_newest_schema(
    tmp_path: Path, code_before: Code, fresh_database: str, redis_url: str
) -> None:
    """The module that deploy.sh passes to the old release's Python needs nothing newer."""
    newest = ScriptDirectory(str(PROJECT / "migrations")).get_current_head()
    gateway = Gateway(tmp_path, code=code_before, DATABASE_URL=fresh_database, REDIS_URL=redis_url)
    if ScriptDirectory(str(code_before.folder / "migrations")).get_current_head() == newest:
        expected, printed = 1, "the database has no newer schema"
    else:
        expected, printed = 0, f"Nothing to migrate: the database has the newer schema {newest}."
    done = subprocess.run(
        [code_before.python, "-"],
        input=(PROJECT / "promptly/runtime/newer_schema.py").read_text(),
        env={name: text for name, text in gateway.environment.items() if name != "PYTHONPATH"},
        cwd=code_before.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expected, done.stderr
    assert printed in done.stdout + done.stderr
