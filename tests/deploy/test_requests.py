"""`deploy/request.sh` on the runner, and `deploy/receive.sh` on the server."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.deploy.workflows import PROJECT
from tests.deploy.world import URL, World, write_program

pytestmark = pytest.mark.git

RECEIVE = PROJECT / "deploy" / "receive.sh"
TIMEOUT_SECONDS = 60
GATEKEEPER = {
    "GATEKEEPER_HOST": "gateway.example.com",
    "GATEKEEPER_USER": "deploy",
    "GATEKEEPER_SSH_KEY": "the private key",
    "GATEKEEPER_KNOWN_HOSTS": "gateway.example.com ssh-ed25519 AAAA",
}
NOISY_DEPLOY = """#!/bin/sh
echo out
echo err >&2
exit 3
"""
# Prints a line, then waits until its test goes on.
SLOW_DEPLOY = """#!/bin/sh
echo started
until [ -e "$CALLS.go" ]; do sleep 0.05; done
echo finished
echo finished >>"$CALLS"
"""


def test_the_server_calls_programs_that_exist() -> None:
    calls = re.findall(r"(?:deploy|scripts)/[\w-]+\.(?:sh|py)", RECEIVE.read_text())
    programs = {name for name in calls if name not in {"deploy/receive.sh", "deploy/request.sh"}}
    assert programs == {"deploy/deploy.sh", "scripts/smoke-test.py"}
    for name, words in (
        ("deploy/deploy.sh", ("compose", "systemd")),
        ("scripts/smoke-test.py", ("--url",)),
    ):
        ended = subprocess.run(
            [PROJECT / name, "--help"], capture_output=True, text=True, check=True
        )
        assert all(word in ended.stdout for word in words)


def request(world: World, *arguments: str, **gatekeeper: str) -> subprocess.CompletedProcess[str]:
    """Run deploy/request.sh in the runner's checkout."""
    return subprocess.run(
        ["deploy/request.sh", *arguments],
        cwd=world.checkout,
        env={**world.variables, **GATEKEEPER, **gatekeeper},
        capture_output=True,
        text=True,
        check=False,
    )


def connect(world: World, sent: str) -> subprocess.Popen[str]:
    """Start deploy/receive.sh on the server, as sshd does for a request."""
    return subprocess.Popen(
        [world.server / "deploy" / "receive.sh", "compose", URL],
        env={**world.variables, "SSH_ORIGINAL_COMMAND": sent},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def receive(world: World, sent: str) -> tuple[int, str]:
    """Return exit code and output of deploy/receive.sh for a request."""
    with connect(world, sent) as server:
        output, _ = server.communicate(timeout=TIMEOUT_SECONDS)
        return server.returncode, output


def wait_for_file(path: Path) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


def test_the_key_is_private_and_removed_afterwards(world: World) -> None:
    assert request(world, "smoke").returncode == 0
    modes = [line.split()[0] for line in world.keys.read_text().splitlines()]
    assert modes == ["600", "700"]
    assert not list((world.folder / "temporary").iterdir())


def test_a_failure_on_the_server_is_passed_on_and_leaves_no_key(world: World) -> None:
    world.failing = "smoke-test.py"
    assert request(world, "smoke").returncode == 1
    assert not list((world.folder / "temporary").iterdir())


def test_only_the_known_server_and_the_given_key_are_used(world: World) -> None:
    request(world, "smoke")
    options = world.options.read_text().split()
    assert {"StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "BatchMode=yes"} <= set(options)
    assert "GlobalKnownHostsFile=/dev/null" in options


def test_missing_variables_are_named_together(world: World) -> None:
    ended = request(world, "smoke", GATEKEEPER_HOST="", GATEKEEPER_KNOWN_HOSTS="")
    assert ended.returncode == 2
    assert "not set: GATEKEEPER_HOST GATEKEEPER_KNOWN_HOSTS" in ended.stderr
    assert world.called() == []


def test_other_requests_are_refused(world: World) -> None:
    deploy = f"deploy {world.head}"
    for sent in (
        *(
            "",
            "bash",
            "smoke http://example.com",
            "smoke; id",
            "smoke\nid",
            "deploy",
            "deploy main",
        ),
        *(f"{deploy}0", deploy[:-1], f"{deploy};id", f"{deploy} systemd", f"{deploy}\nid"),
    ):
        code, output = receive(world, sent)
        assert (code, "this key may only send" in output) == (2, True), sent
    assert world.called() == []


@pytest.mark.parametrize("known", [True, False])
def test_a_commit_that_is_not_on_main_is_refused(world: World, known: bool) -> None:
    before = world.head
    world.git(world.checkout, "switch", "--quiet", "--create", "dev")
    world.git(world.checkout, "commit", "--quiet", "--allow-empty", "--message", "Not reviewed")
    if known:
        world.git(world.server, "fetch", "--quiet", world.checkout, "dev")
    code, output = receive(world, f"deploy {world.head}")
    assert code == 2
    assert f"{world.head} is not on main" in output
    assert world.called() == []
    assert world.git(world.server, "rev-parse", "HEAD") == before


def test_an_earlier_commit_of_main_can_be_deployed_again(world: World) -> None:
    earlier = world.head
    world.push()
    for commit in (world.head, earlier):
        assert receive(world, f"deploy {commit}")[0] == 0
        assert world.git(world.server, "rev-parse", "HEAD") == commit


def test_a_commit_that_cannot_go_back_is_deployed_by_the_present_one(world: World) -> None:
    module = world.checkout / "promptly" / "runtime" / "newer_schema.py"
    assert (PROJECT / module.relative_to(world.checkout)).exists()
    earlier = world.head
    module.parent.mkdir()
    module.touch()
    deploy_sh = world.checkout / "deploy" / "deploy.sh"
    deploy_sh.write_text(f"{deploy_sh.read_text()}echo from a newer schema\n")
    present = world.push()
    for commit in (present, earlier, present):
        assert receive(world, f"deploy {commit}") == (0, "from a newer schema\n")
        assert world.called()[-1] == f"deploy.sh compose {commit[:12]}"
        assert world.git(world.server, "rev-parse", "HEAD") == present


def test_the_log_of_the_deploy_is_sent_and_kept(world: World) -> None:
    write_program(world.checkout / "deploy" / "deploy.sh", NOISY_DEPLOY)
    world.push()
    for _ in range(2):
        assert receive(world, f"deploy {world.head}") == (3, "out\nerr\n")
    assert (world.server / ".promptly" / "deploy.log").read_text() == "out\nerr\n"


def test_a_deploy_survives_its_connection(world: World) -> None:
    write_program(world.checkout / "deploy" / "deploy.sh", SLOW_DEPLOY)
    world.push()
    with connect(world, f"deploy {world.head}") as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "started\n"
        os.killpg(server.pid, signal.SIGKILL)
    assert world.called() == []
    world.calls.with_suffix(".go").touch()
    wait_for_file(world.calls)
    assert world.called() == ["finished"]
