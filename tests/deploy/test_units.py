"""The shipped systemd units: valid, hardened, and with time limits that agree with gunicorn's."""

import shutil
import subprocess
from pathlib import Path

import pytest

from promptly.settings import END_SECONDS
from tests.support.servers import PROJECT, make_settings
from tests.support.units import UNITS, read_unit

NAMES = (
    "promptly-listener.service",
    "promptly-gateway@1.0.0.service",
    "promptly-migrate@1.0.0.service",
    "promptly-worker.service",
    "promptly-beat.service",
    "promptly-backup.service",
)
TIMERS = ("promptly-backup.timer",)
# Of systemd-analyze: 0 is closed, 10 is open; an unhardened service has 9.2.
EXPOSURE = 2.0
PROGRAMS = ("python", "gunicorn", "flask", "celery")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with the units, systemd's targets, and the programs that the units start."""
    shutil.copytree(UNITS, tmp_path / "etc/systemd/system")
    shutil.copytree(
        "/usr/lib/systemd/system",
        tmp_path / "usr/lib/systemd/system",
        symlinks=True,
        ignore=lambda _, names: [name for name in names if not name.endswith(".target")],
    )
    for release in ("current", "gateways/1.0.0", "releases/1.0.0"):
        folder = tmp_path / "opt/promptly" / release / ".venv/bin"
        folder.mkdir(parents=True)
        for name in PROGRAMS:
            (folder / name).touch(0o755)
    scripts = tmp_path / "opt/promptly/current/deploy"
    scripts.mkdir()
    (scripts / "backup.sh").touch(0o755)
    return tmp_path


def test_every_unit_is_covered() -> None:
    shipped = {path.name for path in UNITS.glob("*.service")}
    assert shipped == {name.replace("@1.0.0", "@") for name in NAMES}
    assert {path.name for path in UNITS.glob("*.timer")} == set(TIMERS)


@pytest.mark.systemd
def test_systemd_accepts_the_units(root: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", f"--root={root}", *NAMES, *TIMERS],
        capture_output=True,
        text=True,
        check=False,
    )
    # It only warns of an unknown directive or value.
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.systemd
@pytest.mark.parametrize("name", NAMES)
def test_the_units_are_hardened(root: Path, name: str) -> None:
    threshold = f"--threshold={EXPOSURE * 10:.0f}"
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--root={root}", threshold, name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-400:]


def test_a_gateway_is_not_killed_while_it_drains() -> None:
    [stop_seconds] = read_unit(NAMES[1])["TimeoutStopSec"]
    assert int(stop_seconds) > make_settings().drain_seconds + END_SECONDS


def test_backups_are_written_where_their_unit_may_write() -> None:
    unit = read_unit("promptly-backup.service")
    [command], [state] = unit["ExecStart"], unit["StateDirectory"]
    script, method, folder = command.split()
    assert (PROJECT / Path(script).relative_to("/opt/promptly/current")).stat().st_mode & 0o111
    assert method == "url"
    assert Path(folder).is_relative_to(f"/var/lib/{state}")
