"""The first minute in unusual folders and on unusual machines (`make check-all`)."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.first_minute.newcomer import Newcomer, Person
from tests.plugins import tools

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.network,
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(3600),
]

Arrive = Callable[..., Newcomer]

# No compiler, no servers, and no substitutes for Python's own tools.
MISSING = {"cc", "gcc", "g++", "c++", "clang", "redis-server", "postgres", "git", "uv", "node"}
# A named user that exists on every Linux.
SOMEBODY = "games"


@pytest.fixture
def arrive() -> Iterator[Arrive]:
    """Factory of newcomers, each with a copy of the project below a world-accessible folder."""
    arrived: list[Newcomer] = []
    # pytest's own temporary folders are closed to other users.
    top = Path("/var/tmp") / f"promptly-{os.getpid()}"

    def newcomer(
        folder: str = "promptly",
        *,
        mode: int = 0o755,
        person: Person | None = None,
        wrapper: tuple[str | Path, ...] = (),
        variables: dict[str, str] | None = None,
    ) -> Newcomer:
        above = top / str(len(arrived))
        (above / folder).parent.mkdir(parents=True)
        above.chmod(mode)
        if person is not None:
            for path in (above, *above.rglob("*")):
                os.chown(path, person.uid, person.gid)
        arrived.append(
            Newcomer(above / folder, person=person, wrapper=wrapper, variables=variables)
        )
        return arrived[-1]

    yield newcomer
    for someone in arrived:
        someone.clean()
    shutil.rmtree(top)


def somebody() -> Person:
    entry = pwd.getpwnam(SOMEBODY)
    return Person(entry.pw_uid, entry.pw_gid)


def first_minute(newcomer: Newcomer) -> str:
    """Start, paste, stop, start again: the account persists. Return the first start's output."""
    newcomer.make_run()
    printed = newcomer.printed
    registered, chat, streamed = newcomer.paste_readme()
    assert "<html" in registered
    assert '"available_tokens"' in chat
    assert streamed.strip()
    newcomer.stop()
    newcomer.make_run()
    users = newcomer.run("bash", ".venv/bin/flask --app wsgi users list")
    assert "you@example.com" in users
    newcomer.stop()
    return printed


def bare_path(folder: Path) -> str:
    """Return a PATH with a bare machine's programs, without those in MISSING."""
    folder.mkdir()
    for directory in ("/usr/bin", "/bin"):
        for program in Path(directory).iterdir():
            link = folder / program.name
            is_missing = program.name in MISSING or program.name.startswith(("gcc-", "python"))
            if not is_missing and not link.is_symlink():
                link.symlink_to(program)
    return str(folder)


@pytest.mark.as_root
def test_root_with_a_closed_mask(arrive: Arrive) -> None:
    first_minute(arrive(mode=0o700, person=Person(umask=0o077)))


@pytest.mark.as_root
def test_a_user_in_a_folder_with_blanks_and_accents(arrive: Arrive) -> None:
    first_minute(arrive("my projects/é/promptly", person=somebody()))


@pytest.mark.as_root
def test_a_user_without_a_home(arrive: Arrive) -> None:
    first_minute(arrive(person=somebody(), variables={"HOME": "/nonexistent"}))


def test_a_very_long_path(arrive: Arrive) -> None:
    first_minute(arrive("/".join(["a-folder-with-a-rather-long-name"] * 8)))


@pytest.mark.parametrize(
    "variables",
    [
        {"LANG": "C", "LC_ALL": "C"},
        {"LANG": "en_US.ISO-8859-1", "LC_ALL": "en_US.ISO-8859-1"},
        {"http_proxy": "http://127.0.0.1:9"},
    ],
    ids=["C", "Latin-1", "proxy"],
)
def test_other_surroundings(arrive: Arrive, variables: dict[str, str]) -> None:
    newcomer = arrive(variables=variables)
    newcomer.make_run()
    answer = newcomer.run(
        "bash",
        f"curl --noproxy '*' -d email=you@example.com http://127.0.0.1:{newcomer.port}/register",
    )
    assert "<html" in answer
    newcomer.stop()


@pytest.mark.as_root
def test_a_temporary_folder_nothing_can_be_run_from(arrive: Arrive, tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o noexec,size=1g tmpfs "{tmp_path}" && exec "$0" "$@"'
    wrapper = ("unshare", "--mount", "sh", "-c", mount)
    first_minute(arrive(wrapper=wrapper, variables={"TMPDIR": str(tmp_path)}))


@pytest.mark.as_root
def test_hardly_any_shared_memory(arrive: Arrive) -> None:
    mount = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$0" "$@"'
    first_minute(arrive(wrapper=("unshare", "--mount", "sh", "-c", mount)))


@pytest.mark.as_root
@pytest.mark.network_namespaces
def test_a_machine_without_ipv6(arrive: Arrive) -> None:
    newcomer = arrive()
    newcomer.install()  # the namespace has no network access
    name = f"promptly-{os.getpid()}"
    newcomer.wrapper = ("ip", "netns", "exec", name)
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        newcomer.run("bash", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; ip link set lo up")
        first_minute(newcomer)
    finally:
        newcomer.clean()
        subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.mark.newer_python
def test_a_newer_python_without_a_compiler_or_redis(arrive: Arrive, tmp_path: Path) -> None:
    variables = {"PATH": bare_path(tmp_path / "bin"), "PYTHON": str(tools.newer_python())}
    newcomer = arrive(variables=variables)
    first_minute(newcomer)
    log = (newcomer.folder / ".promptly" / "log" / "web.log").read_text()
    assert "gunicorn_h1c is not installed" in log


@pytest.mark.as_root
def test_without_venv_the_line_that_installs_it(arrive: Arrive, tmp_path: Path) -> None:
    ask = "import ensurepip; print(ensurepip.__path__[0])"
    ensurepip = subprocess.check_output(["/usr/bin/python3", "-c", ask], text=True).strip()
    (tmp_path / "empty").mkdir()
    hide = f'mount --bind "{tmp_path}/empty" "{ensurepip}" && exec "$0" "$@"'
    newcomer = arrive(
        wrapper=("unshare", "--mount", "sh", "-c", hide),
        variables={"PATH": bare_path(tmp_path / "bin"), "PYTHON": "/usr/bin/python3"},
    )
    assert newcomer.start().wait(60) != 0
    assert "lacks its venv module: apt-get install python3" in newcomer.printed
    assert not (newcomer.folder / ".venv").exists()


@pytest.mark.as_root
def test_a_user_without_a_name_gets_instructions(arrive: Arrive) -> None:
    newcomer = arrive(person=Person(2_000_123, 2_000_123))
    assert newcomer.start().wait(600) != 0
    assert "who has no name on this machine" in newcomer.printed
    assert "/etc/passwd" in newcomer.printed


@pytest.mark.as_root
def test_all_tests_in_a_closed_folder(arrive: Arrive) -> None:
    newcomer = arrive(mode=0o700, person=Person(umask=0o077))
    printed = newcomer.run("bash", "make test", timeout_seconds=3600)
    assert "Left out:" in printed
