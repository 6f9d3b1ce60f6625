"""The smoke test passes against a whole installation, and fails for each part that is broken."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from urllib.parse import quote, urlencode

import pytest
import redis
import urllib3
from dotenv import dotenv_values

from sandbox.ports import free_port
from tests.plugins.stacks import MakeStack
from tests.support.books import Account, wait_for
from tests.support.process_stack import Background
from tests.support.servers import PROJECT, Gateway, WorkerRedis
from tests.support.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SCRIPT = PROJECT / "scripts" / "smoke-test.py"
ADMIN_KEY = "admin-key+of/the smoke test="
ADDRESS = re.compile(r"smoke-[0-9a-f]{16}@smoke\.invalid")
SECONDS = 60


@dataclass(frozen=True)
class Run:
    """A finished smoke test."""

    code: int
    output: str

    def names(self, word: str) -> list[str]:
        """Return the checks that printed `ok`, `FAIL` or `skip`."""
        return re.findall(rf"^{word:<5} ([^:\n]*)", self.output, re.MULTILINE)

    def line(self, name: str) -> str:
        [line] = re.findall(rf"^\w+ +{name}: .*$", self.output, re.MULTILINE)
        return str(line)


class Smoker:
    """Runs the smoke test against one gateway, in a directory without `.env`."""

    def __init__(self, directory: Path, url: str, api_key: str = "") -> None:
        self.directory = directory
        self._url = url
        self._api_key = api_key

    def start(self, *arguments: str, admin_key: str = ADMIN_KEY) -> subprocess.Popen[str]:
        return subprocess.Popen(
            # Isolated, and without installed packages.
            [sys.executable, "-I", "-S", SCRIPT, "--url", self._url, "--verbose", *arguments],
            cwd=self.directory,
            env={"ADMIN_KEY": admin_key, "SMOKE_API_KEY": self._api_key},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> Run:
        """Wait for the end, and check that the output contains no key."""
        output = process.communicate(timeout=SECONDS)[0]
        for key in filter(None, (ADMIN_KEY, self._api_key)):
            assert key not in output
            assert quote(key, safe="") not in output
        return Run(process.returncode, output)

    def run(self, *arguments: str, admin_key: str = ADMIN_KEY) -> Run:
        return self.finish(self.start(*arguments, admin_key=admin_key))


@pytest.fixture(scope="module")
def stack(make_stack: MakeStack, redis_server: WorkerRedis) -> Iterator[Stack]:
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushdb()
    with make_stack("smoke", ADMIN_KEY=ADMIN_KEY, REGISTRATION_RATE_LIMIT=3) as made:
        yield made


@pytest.fixture(scope="module")
def gateway(stack: Stack) -> Gateway:
    return stack.gateway(stack.simulated_llama().url, INFERENCE_IP_RATE_LIMIT=30)


@pytest.fixture(scope="module")
def background(stack: Stack, gateway: Gateway) -> Iterator[Background]:
    """The worker and beat, after /health/ready has seen them."""
    directory = stack.directory / "celery"
    directory.mkdir()
    running = Background(directory, gateway.environment)

    def are_seen() -> bool:
        text = urllib3.request("GET", f"{gateway.url}/health/ready").data.decode()
        return "worker: ok" in text and "beat: ok" in text

    try:
        wait_for(are_seen, "the worker and beat", 60)
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def account(stack: Stack) -> Account:
    """The account of SMOKE_API_KEY, and the only one before and after each smoke test."""
    return stack.books.account(10_000)


@pytest.fixture
def smoker(
    gateway: Gateway,
    account: Account,
    background: Background,
    redis_server: WorkerRedis,
    tmp_path: Path,
) -> Smoker:
    """The smoke test of the whole installation, with no limit used up."""
    with redis.Redis.from_url(redis_server.url) as client:
        for name in client.scan_iter():
            if b"LIMITER" in name or name.startswith(b"promptly:rate:"):
                client.delete(name)
    return Smoker(tmp_path, gateway.url, account.key)


def emails(stack: Stack) -> list[str]:
    return [row["email"] for row in stack.books.rows("SELECT email FROM users ORDER BY id")]


def test_passes(smoker: Smoker, stack: Stack, account: Account) -> None:
    before = stack.books.balance(account)["paid_tokens"]
    run = smoker.run()
    assert run.code == 0, run.output
    assert run.output.endswith("\n14 ok, 0 failed, 0 skipped\n")
    assert emails(stack) == [account.email]
    charged = sum(event["charged_tokens"] for event in stack.books.wait_for_events(account, 2))
    assert 0 < charged == before - stack.books.balance(account)["paid_tokens"]


def test_a_wrong_admin_key(smoker: Smoker, stack: Stack, account: Account) -> None:
    (smoker.directory / ".env").write_text("ADMIN_KEY='wrong-admin-key-0123456789'\n")
    run = smoker.run(admin_key="")
    assert run.code == 1, run.output
    assert run.names("FAIL") == ["admin panel"]
    assert "found 403 Forbidden" in run.line("admin panel")
    assert "Check the admin key" in run.output and "wrong-admin-key" not in run.output
    # It leaves no account behind that it could not delete.
    assert run.names("skip") == ["new user", "duplicate", "form API", "clean-up"]
    assert emails(stack) == [account.email]


def test_no_model_server_no_limits_and_a_challenge(
    smoker: Smoker, stack: Stack, account: Account, tmp_path: Path
) -> None:
    run = Smoker(tmp_path, stack.gateway(REGISTRATION_CHALLENGE="altcha").url).run()
    assert run.code == 1, run.output
    assert run.names("FAIL") == ["readiness", "rate limit"]
    assert "found 503 upstream: away" in run.line("readiness")
    assert "Start the model server" in run.output
    assert "found 100000 requests" in run.line("rate limit")
    assert "Set INFERENCE_IP_RATE_LIMIT" in run.output
    assert run.names("skip") == ["inference", "streamed inference"]
    assert {"new user", "duplicate"} < set(run.names("ok"))
    assert emails(stack) == [account.email]


def test_a_failing_clean_up_names_the_address(
    smoker: Smoker, gateway: Gateway, stack: Stack, account: Account
) -> None:
    stack.books.rows(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RAISE EXCEPTION ''no account can be closed''; END'"
    )
    stack.books.rows(
        "CREATE TRIGGER refuse BEFORE UPDATE OF closed_at ON users EXECUTE FUNCTION refuse()"
    )
    run = smoker.run("--skip-rate-limit")
    stack.books.rows("DROP FUNCTION refuse CASCADE")
    assert run.code == 1, run.output
    assert run.names("FAIL") == ["clean-up"]
    [left] = set(emails(stack)) - {account.email}
    assert ADDRESS.fullmatch(left)
    assert f"flask --app wsgi users delete {left} --yes" in run.output
    urllib3.request(
        "POST",
        f"{gateway.url}/admin/delete",
        body=urlencode({"key": ADMIN_KEY, "email": left}),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert emails(stack) == [account.email]


def test_used_up_registrations_are_a_skip(smoker: Smoker) -> None:
    # Each run makes two registrations, of three.
    runs = [smoker.run("--skip-rate-limit") for _ in range(3)]
    assert [run.code for run in runs] == [0, 0, 0], [run.output for run in runs]
    assert [run.names("skip") for run in runs] == [
        ["rate limit"],
        ["duplicate", "rate limit"],
        ["new user", "duplicate", "form API", "rate limit", "clean-up"],
    ]
    assert "429: REGISTRATION_RATE_LIMIT" in runs[1].line("duplicate")
    assert "429: REGISTRATION_RATE_LIMIT" in runs[2].line("new user")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_cleans_up_if_interrupted(
    smoker: Smoker, stack: Stack, account: Account, number: signal.Signals
) -> None:
    with smoker.start() as process:
        assert process.stdout is not None
        while "form API" not in process.stdout.readline():
            assert process.poll() is None
        assert len(emails(stack)) == 2
        process.send_signal(number)
        # The lines that were read above are missing.
        run = smoker.finish(process)
    assert run.code == 1
    assert run.names("FAIL") == ["interrupted"] and "clean-up" in run.names("ok")
    assert emails(stack) == [account.email]


def test_no_gateway(tmp_path: Path) -> None:
    run = Smoker(tmp_path, f"http://127.0.0.1:{free_port()}").run()
    assert run.code == 1
    assert run.names("FAIL") == ["health"] and run.names("ok") == []
    assert "ConnectionRefusedError" in run.line("health")


@pytest.mark.parametrize(
    ("url", "admin_key", "words"),
    [
        ("http://127.0.0.1:1", "", "no admin key: set ADMIN_KEY"),
        ("127.0.0.1:8503", ADMIN_KEY, "--url: invalid http_url"),
    ],
)
def test_wrong_usage(tmp_path: Path, url: str, admin_key: str, words: str) -> None:
    run = Smoker(tmp_path, url).run(admin_key=admin_key)
    assert run.code == 2 and words in run.output


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = spec_from_file_location("smoke_test", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "text",
    [
        "ADMIN_KEY=plain+/=#key\n",
        "OTHER=1\nexport ADMIN_KEY = spaced key  # a comment\nADMIN_KEYS=no\n",
        "ADMIN_KEY=first\nADMIN_KEY='it\\'s # quoted \\\\'  # a comment",
        'ADMIN_KEY="double \\" and \' \\\\"\r\nB=2\r\n',
        "ADMIN_KEY=windows\r\nB=2\r\n",
        "\ufeffADMIN_KEY=after a byte order mark",
        "ADMIN_KEY= # only a comment\n",
        "ADMIN_KEY=\nB=next line\n",
        "# ADMIN_KEY=commented out\nMY_ADMIN_KEY=another\n",
        "ADMIN_KEY='unfinished\n",
        "",
    ],
)
def test_reads_the_key_as_the_gateway_does(script: ModuleType, tmp_path: Path, text: str) -> None:
    file = tmp_path / ".env"
    file.write_text(text, newline="")
    read = dotenv_values(file, interpolate=False).get("ADMIN_KEY") or ""
    assert script.admin_key_of(file) == read.strip()


def test_the_worker_was_stopped_just_now(smoker: Smoker, background: Background) -> None:
    background.stop()
    run = smoker.run("--skip-rate-limit")
    assert run.code == 1, run.output
    assert run.names("FAIL") == ["worker and beat"]
    # The line alone would not show it for a minute.
    assert "worker: ok (seen" in run.line("worker and beat")
    assert "Start the worker" in run.output
