"""deploy.sh with stand-ins for docker, systemctl and pip: the order of its steps, and failures."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.servers import PROJECT

DOCKER = """
case "$*" in
  "compose config --images") printf 'postgres:16\\npromptly:%s\\n' $PROMPTLY_VERSION 1.0.0 ;;
  "image inspect "*) [ -e image ] ;;
  "compose ps --quiet gateway") cat running ;;
  "compose ps --all --quiet gateway") cat running; echo new ;;
  "inspect "*) cat health ;;
  "compose run "*" migrate") [ ! -e migration-fails ] ;;
  "compose run "*" migrate python -") [ -e is-ahead ] ;;
esac
"""
SYSTEMCTL = """
case "$*" in
  list-units*gateway*) cat running ;;
  "start "*migrate*) [ ! -e migration-fails ] ;;
esac
"""
# As far as the script uses it: an environment whose pip, python and modules do nothing.
PYTHON = """
mkdir -p "$3/bin"
cat >"$3/bin/pip" <<'END'
#!/bin/sh
echo "${0##*/} $*" >>"$CALLS"
case "$*" in
  -) [ -e "$CHECKOUT/is-ahead" ] ;;
  *) [ ! -e "$CHECKOUT/packages-fail" ] ;;
esac
END
cp "$3/bin/pip" "$3/bin/python"
chmod +x "$3/bin/pip" "$3/bin/python"
"""


class Machine:
    """A checkout with the script, and programs that record how they are called."""

    def __init__(self, folder: Path) -> None:
        self.project, self.calls = folder / "checkout", folder / "calls"
        self._programs, self.root = folder / "bin", folder / "root"
        self._programs.mkdir()
        (self.project / "deploy").mkdir(parents=True)
        (self.project / "promptly/runtime").mkdir(parents=True)
        for name in ("deploy/deploy.sh", "promptly/runtime/newer_schema.py"):
            shutil.copy(PROJECT / name, self.project / name)
        for name, script in (
            ("docker", DOCKER),
            ("systemctl", SYSTEMCTL),
            ("python3", PYTHON),
            ("journalctl", "echo last lines of the log"),
            ("date", "echo NOW"),
            ("runuser", 'shift 3; exec "$@"'),
        ):
            program = self._programs / name
            program.write_text(f'#!/bin/sh\necho "{name} $*" >>"$CALLS"\n{script}\n')
            program.chmod(0o755)
        self.write("running", "")
        self.write("health", "healthy\n")

    def write(self, name: str, text: str = "") -> None:
        (self.project / name).write_text(text)

    def git(self, *arguments: str) -> None:
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
        subprocess.run(["git", *identity, *arguments], cwd=self.project, check=True)

    def deploy(self, *arguments: str, code: int = 0) -> str:
        """Run the script with this exit code; return its output, and forget earlier calls."""
        self.calls.write_text("")
        done = subprocess.run(
            [self.project / "deploy/deploy.sh", *arguments],
            env={
                "PATH": f"{self._programs}:{os.environ['PATH']}",
                "CALLS": str(self.calls),
                "CHECKOUT": str(self.project),
                "DEPLOY_ROOT": str(self.root),
                "DEPLOY_WAIT_SECONDS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def called(self, *programs: str) -> list[str]:
        """Return the calls of these programs, or of all, in order; polls appear once."""
        lines = self.calls.read_text().splitlines()
        found = [line for line in lines if not programs or line.split()[0] in programs]
        return list(dict.fromkeys(found))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def checkout(machine: Machine) -> Machine:
    """A machine whose checkout is a repository with the tag v1.2.0."""
    machine.write("requirements-production.txt")
    machine.git("init", "--quiet")
    machine.git("add", "requirements-production.txt")
    machine.git("commit", "--quiet", "-m", "one")
    machine.git("tag", "v1.2.0")
    return machine


def test_compose_starts_the_new_gateway_before_it_ends_the_old_one(machine: Machine) -> None:
    machine.write("running", "old\ndraining\n")
    machine.write(".env", "BASE_URL=https://example.com\nPROMPTLY_VERSION=1.1.0\n")
    machine.deploy("compose", "1.2.0")
    assert machine.called() == [
        "docker compose config --images",
        "docker image inspect promptly:1.2.0",
        "docker compose build",
        "docker compose up --detach --wait --no-recreate db redis listener",
        "docker compose run --rm --no-deps migrate",
        "docker compose rm --force gateway",
        "docker compose ps --quiet gateway",
        "docker compose up --detach --no-deps --no-recreate --scale gateway=3 gateway",
        "docker compose ps --all --quiet gateway",
        "docker inspect --format {{.State.Health.Status}} new",
        "docker exec new python -m promptly.runtime.health_check /health/ready",
        "docker update --restart no old",
        "docker kill --signal TERM old",
        "docker update --restart no draining",
        "docker kill --signal TERM draining",
        "docker compose up --detach --no-deps worker beat",
        "docker compose ps",
    ]
    environment = (machine.project / ".env").read_text()
    assert environment == "BASE_URL=https://example.com\nPROMPTLY_VERSION=1.2.0\n"


def test_compose_builds_no_image_twice(machine: Machine) -> None:
    """Back to an old version: its image exists, and this checkout is another one's."""
    machine.write("image")
    machine.deploy("compose", "1.1.0")
    called = machine.called()
    assert "docker compose build" not in called
    scaled = "docker compose up --detach --no-deps --no-recreate --scale gateway=1 gateway"
    assert scaled in called
    assert (machine.project / ".env").read_text() == "\nPROMPTLY_VERSION=1.1.0\n"


@pytest.mark.git
def test_compose_builds_no_version_from_another_checkout(checkout: Machine) -> None:
    checkout.git("commit", "--quiet", "--allow-empty", "-m", "two")
    assert "not 1.2.0: git checkout" in checkout.deploy("compose", "1.2.0", code=1)
    assert "docker compose build" not in checkout.called()
    checkout.git("checkout", "--quiet", "v1.2.0")
    checkout.deploy("compose", "1.2.0")
    assert "docker compose build" in checkout.called()


def test_compose_starts_nothing_after_a_failed_migration(machine: Machine) -> None:
    machine.write("migration-fails")
    assert "the migration failed" in machine.deploy("compose", "1.2.0", code=1)
    assert machine.called()[-1] == "docker compose run --rm --no-deps -T migrate python -"


def test_compose_deploys_an_old_release_that_refuses_the_newer_schema(machine: Machine) -> None:
    machine.write("migration-fails")
    machine.write("is-ahead")
    machine.deploy("compose", "1.1.0")
    assert (machine.project / ".env").read_text() == "\nPROMPTLY_VERSION=1.1.0\n"


def test_compose_keeps_the_old_gateway_if_the_new_one_is_not_healthy(machine: Machine) -> None:
    machine.write("running", "old\n")
    machine.write("health", "starting\n")
    assert "the running one stays" in machine.deploy("compose", "1.2.0", code=1)
    assert machine.called()[-2:] == ["docker logs --tail 40 new", "docker rm --force new"]
    assert not [call for call in machine.called() if call.endswith(" old")]
    assert not (machine.project / ".env").exists()


@pytest.mark.git
def test_systemd_starts_the_new_gateway_before_it_ends_the_old_one(checkout: Machine) -> None:
    checkout.write("running", "promptly-gateway@1.1.0-THEN.service loaded active running x\n")
    home = checkout.root / "opt/promptly"
    (home / "gateways").mkdir(parents=True)
    for link in ("1.0.0-BEFORE", "1.1.0-THEN"):
        (home / "gateways" / link).symlink_to("../releases/1.1.0")
    checkout.deploy("systemd", "1.2.0")
    assert checkout.called("systemctl") == [
        "systemctl start promptly-migrate@1.2.0.service",
        "systemctl enable --now promptly-listener.service",
        "systemctl list-units --plain --no-legend --state active,activating,deactivating"
        " promptly-gateway@*",
        # Stopped by hand, it would start at boot and find no release.
        "systemctl disable promptly-gateway@1.0.0-BEFORE.service",
        "systemctl start promptly-gateway@1.2.0-NOW.service",
        "systemctl enable promptly-gateway@1.2.0-NOW.service",
        "systemctl disable promptly-gateway@1.1.0-THEN.service",
        "systemctl stop --no-block promptly-gateway@1.1.0-THEN.service",
        "systemctl stop promptly-beat.service promptly-worker.service",
        "systemctl enable --now promptly-worker.service promptly-beat.service",
        "systemctl list-units --plain --no-legend promptly-*",
    ]
    release = home / "releases/1.2.0"
    assert (home / "current").resolve() == (home / "gateways/1.2.0-NOW").resolve() == release
    # The link of a gateway that has ended is gone.
    assert {link.name for link in (home / "gateways").iterdir()} == {"1.1.0-THEN", "1.2.0-NOW"}
    assert (release / ".env").readlink() == checkout.root / "etc/promptly/promptly.env"
    [installed] = checkout.called("pip")
    assert installed.endswith(f"--requirement {release}/requirements-production.txt")


@pytest.mark.git
def test_systemd_keeps_the_old_gateway_if_the_new_one_does_not_answer(checkout: Machine) -> None:
    checkout.write("running", "promptly-gateway@1.1.0-THEN.service loaded active running x\n")
    checkout.deploy("systemd", "1.2.0")
    python = checkout.root / "opt/promptly/releases/1.2.0/.venv/bin/python"
    python.write_text("#!/bin/sh\nexit 1\n")
    printed = checkout.deploy("systemd", "1.2.0", code=1)
    assert "last lines of the log" in printed and "the running one stays" in printed
    assert checkout.called()[-2:] == [
        "journalctl --unit promptly-gateway@1.2.0-NOW.service --lines 40 --no-pager",
        "systemctl stop --no-block promptly-gateway@1.2.0-NOW.service",
    ]
    # An installed release is not installed again.
    assert not checkout.called("python3", "pip")


@pytest.mark.git
def test_systemd_starts_nothing_after_a_failed_migration(checkout: Machine) -> None:
    checkout.write("migration-fails")
    assert "the migration failed" in checkout.deploy("systemd", "1.2.0", code=1)
    assert not [call for call in checkout.called("systemctl") if "gateway" in call]


@pytest.mark.git
def test_systemd_deploys_an_old_release_that_refuses_the_newer_schema(checkout: Machine) -> None:
    checkout.write("migration-fails")
    checkout.write("is-ahead")
    printed = checkout.deploy("systemd", "1.2.0")
    assert "last lines of the log" in printed
    called = checkout.called("systemctl", "runuser")
    assert called[:4] == [
        "systemctl start promptly-migrate@1.2.0.service",
        "runuser --user promptly -- .venv/bin/python -",
        "systemctl reset-failed promptly-migrate@1.2.0.service",
        "systemctl enable --now promptly-listener.service",
    ]


@pytest.mark.git
def test_a_release_whose_packages_fail_is_installed_again(checkout: Machine) -> None:
    checkout.write("packages-fail")
    checkout.deploy("systemd", "1.2.0", code=1)
    assert not checkout.called("systemctl")
    (checkout.project / "packages-fail").unlink()
    checkout.deploy("systemd", "1.2.0")
    assert checkout.called("pip") and checkout.called("systemctl")


@pytest.mark.git
def test_an_unknown_version_is_refused(checkout: Machine) -> None:
    assert "no tag v9.9.9, no commit 9.9.9" in checkout.deploy("systemd", "9.9.9", code=1)
    assert checkout.called() == []


@pytest.mark.parametrize("version", ["", "../x", "-x", "a b", "x;y"])
def test_a_version_that_is_no_name_is_refused(machine: Machine, version: str) -> None:
    assert "not a version" in machine.deploy("compose", version, code=1)
    assert machine.called() == []


def test_usage(machine: Machine) -> None:
    assert "Usage" in machine.deploy("--help")
    for arguments in ([], ["compose"], ["kubernetes", "1.2.0"], ["compose", "1.2.0", "more"]):
        assert "Usage" in machine.deploy(*arguments, code=2)
    assert machine.called() == []


def test_one_deploy_at_a_time(machine: Machine) -> None:
    with subprocess.Popen(
        ["flock", machine.project, "sh", "-c", "echo locked; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        assert "another deploy is running" in machine.deploy("compose", "1.2.0", code=1)
        other.communicate(b"\n")
    machine.deploy("compose", "1.2.0")
