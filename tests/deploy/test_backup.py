"""deploy/backup.sh with stand-ins for PostgreSQL's programs: its files, rotation and failures."""

import hashlib
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sandbox.process import wait_until
from tests.deploy.backups import Release

# A Monday, so that the weeks before it are whole.
NOW = datetime(2026, 11, 30, 2, 15, tzinfo=UTC)
NAME = "promptly-20261130T021500Z.dump"
DATE = f"""
case "$*" in
  *--date=*) command -p date "$@" ;;
  *) command -p date --date=@{NOW.timestamp():.0f} "$@" ;;
esac
"""
URL = "postgresql://gateway@db.example.com/gateway"
FOREIGN = {
    "promptly-20200101T000000Z.dump.gpg",
    "promptly-20200101T000000Z.txt",
    "promptly-20209999T000000Z.dump",
    "promptly-2020.dump",
    "staging-20200101T000000Z.dump",
}


@pytest.fixture
def release(tmp_path: Path) -> Release:
    made = Release(tmp_path, URL)
    made.program("pg_dump", "echo a dump")
    made.program("pg_restore", "cat >/dev/null")
    made.program("date", DATE)
    made.program("psql", "cat >/dev/null")
    return made


def make_backups(release: Release, *ages_days: float) -> list[str]:
    """Create backups of these ages, and return their names."""
    release.backups.mkdir(exist_ok=True)
    names = [f"promptly-{NOW - timedelta(days=days):%Y%m%dT%H%M%SZ}.dump" for days in ages_days]
    for name in names:
        (release.backups / name).touch()
        (release.backups / f"{name}.sha256").touch()
    return names


def kept(release: Release, names: list[str]) -> list[str]:
    """Return those of the backups that still exist, each with its checksum."""
    files = release.files()
    found = [name for name in names if name in files]
    assert {name for name in names if f"{name}.sha256" in files} == set(found)
    return found


def test_a_backup_and_its_checksum(release: Release) -> None:
    printed = release.back_up()
    dump = release.dump()
    assert dump.name == NAME
    assert dump.read_text() == "a dump\n"
    digest = hashlib.sha256(b"a dump\n").hexdigest()
    assert Path(f"{dump}.sha256").read_text() == f"{digest}  {dump.name}\n"
    assert release.files() == {dump.name, f"{dump.name}.sha256"}
    assert printed == f"backup.sh: {dump} (7)\n"


def test_only_the_owner_can_read_backups(release: Release) -> None:
    release.back_up()
    for path in (release.backups, *release.backups.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_old_backups_are_deleted(release: Release) -> None:
    # One on each of the last thirty days.
    names = make_backups(release, *range(1, 31))
    release.back_up(BACKUP_KEEP_DAYS="3", BACKUP_KEEP_WEEKS="4")
    # Of the four weeks, that of the new backup is the first; the others end on Sundays.
    assert kept(release, names) == [names[days - 1] for days in (1, 2, 8, 15)]


def test_days_without_a_backup_do_not_count(release: Release) -> None:
    names = make_backups(release, 400, 500, 600, 700)
    release.back_up(BACKUP_KEEP_DAYS="3", BACKUP_KEEP_WEEKS="0")
    assert kept(release, names) == names[:2]


def test_all_of_the_newest_day_stay_and_the_newest_of_earlier_days(release: Release) -> None:
    today = make_backups(release, 0.01, 0.02)
    earlier = make_backups(release, 30.01, 30.02)
    release.back_up(BACKUP_KEEP_DAYS="2", BACKUP_KEEP_WEEKS="0")
    assert kept(release, today) == today
    assert kept(release, earlier) == earlier[:1]


def test_a_new_backup_stays_although_another_is_dated_later(release: Release) -> None:
    later = make_backups(release, -400)
    release.back_up(BACKUP_KEEP_DAYS="1", BACKUP_KEEP_WEEKS="0")
    assert kept(release, [*later, NAME]) == [*later, NAME]


def test_files_of_others_stay(release: Release) -> None:
    release.backups.mkdir()
    for name in FOREIGN:
        (release.backups / name).touch()
    (release.backups / "promptly-20200101T000000Z.dump").mkdir()
    release.back_up(BACKUP_KEEP_DAYS="1", BACKUP_KEEP_WEEKS="0")
    assert release.files() > FOREIGN | {"promptly-20200101T000000Z.dump"}


@pytest.mark.parametrize(
    ("program", "script", "message"),
    [
        ("pg_dump", "echo half; echo no; echo server >&2; exit 1", "pg_dump failed: server"),
        ("pg_restore", "echo cut >&2; exit 1", "the new backup cannot be read: cut"),
    ],
)
def test_a_failure_deletes_nothing_and_says_why(
    release: Release, program: str, script: str, message: str
) -> None:
    names = make_backups(release, *range(1, 20))
    before = release.files()
    release.program(program, script)
    assert release.back_up(code=1) == f"backup.sh: {message}\n"
    assert release.files() == before
    assert kept(release, names) == names


def test_a_time_that_cannot_be_recorded_is_only_a_warning(release: Release) -> None:
    names = make_backups(release, 0.01, 400)
    release.program("psql", "echo 'ERROR: read-only' >&2; exit 3")
    printed = release.back_up(BACKUP_KEEP_DAYS="1", BACKUP_KEEP_WEEKS="0")
    assert f"{NAME} is complete, but its time cannot be recorded: ERROR: read-only\n" in printed
    assert {NAME, *names[:1]} <= release.files() and names[1] not in release.files()


def test_messages_of_several_lines_are_joined(release: Release) -> None:
    release.program("pg_dump", "printf 'one\\ntwo\\n' >&2; exit 1")
    assert release.back_up(code=1) == "backup.sh: pg_dump failed: one; two\n"


def test_one_at_a_time(release: Release, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    release.program("pg_dump", f"until [ -e {gate} ]; do sleep 0.05; done; echo a dump")
    release.program("flock", f'command -p flock "$@" && touch {tmp_path}/locked')
    first = release.start("backup.sh", "url", release.backups)
    try:
        wait_until((tmp_path / "locked").exists, 60, "the lock")
        second = release.back_up(code=1)
    finally:
        gate.touch()
        first.communicate(timeout=60)
    assert second == f"backup.sh: another backup into {release.backups} is running\n"
    assert first.returncode == 0


def test_leftovers_of_a_killed_run_are_removed(release: Release) -> None:
    release.backups.mkdir()
    leftover = release.backups / ".promptly-20200101T000000Z.dump.part"
    leftover.touch()
    release.back_up()
    assert not leftover.exists()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_the_password_is_in_no_command_line(release: Release, tmp_path: Path, scheme: str) -> None:
    seen = tmp_path / "seen"
    release.program("pg_dump", f'printf "%s\\n" "$PGPASSWORD" "$*" >{seen}; echo a dump')
    given = f"{scheme}://gateway:p%40s%2Fw\\x%C3%A9@db:5433/gateway?sslmode=require"
    release.back_up(DATABASE_URL=given)
    password, arguments = seen.read_text().splitlines()
    assert password == "p@s/w\\xé"
    assert "--dbname=postgresql://gateway@db:5433/gateway?sslmode=require " in f"{arguments} "
    # Nor can it hide where it would be shown.
    printed = release.back_up(code=1, DATABASE_URL="postgresql://db/gateway?password=x")
    assert printed == "backup.sh: DATABASE_URL must have its password before the @\n"


def test_the_url_comes_from_the_release_without_one_in_the_environment(
    release: Release, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    release.program("pg_dump", f'echo "$*" >{seen}; echo a dump')
    release.back_up()
    assert f"--dbname={URL} " in seen.read_text()
    (release.folder / ".env").unlink()
    assert "DATABASE_URL is set neither" in release.back_up(code=1)


@pytest.mark.parametrize(
    "variables", [{"BACKUP_KEEP_DAYS": "0"}, {"BACKUP_KEEP_DAYS": "x"}, {"BACKUP_KEEP_WEEKS": "-1"}]
)
def test_a_wrong_variable_is_named(release: Release, variables: dict[str, str]) -> None:
    assert f"{next(iter(variables))} must be a number" in release.back_up(code=1, **variables)


@pytest.mark.parametrize("script", ["backup.sh", "restore.sh"])
@pytest.mark.parametrize("arguments", [[], ["url"], ["other", "x"], ["url", "x", "y"]])
def test_wrong_usage(release: Release, script: str, arguments: list[str]) -> None:
    assert release.run(script, *arguments, code=2).startswith(f"Usage: {script} ")
    assert release.run(script, "--help").startswith(f"Usage: {script} ")
