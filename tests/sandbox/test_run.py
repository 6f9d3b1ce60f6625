"""`make run` as a supervisor: one start, one stop, and no process left behind in any case."""

import os
import signal
import socket
import stat
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests
from dotenv import dotenv_values
from stripe import StripeClient

from sandbox.llama import SimulatedLlama
from sandbox.process import wait_until
from tests.sandbox.stripe.conftest import parameters
from tests.sandbox.toy_project import ToyProject, wait_until_gone

pytestmark = pytest.mark.slow

MakeProject = Callable[[str], ToyProject]


@pytest.fixture
def make_project(tmp_path: Path) -> Iterator[MakeProject]:
    made: list[ToyProject] = []

    def build(name: str) -> ToyProject:
        made.append(ToyProject(tmp_path / name))
        return made[-1]

    yield build
    for project in made:
        project.clean()


@pytest.fixture
def project(make_project: MakeProject) -> ToyProject:
    return make_project("toy")


def test_start_use_stop_and_start_again(project: ToyProject) -> None:
    project.start_and_wait()
    state = project.folder / ".promptly"
    for name in ("secrets.env", "runtime.env"):
        assert stat.S_IMODE((state / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    secrets = dotenv_values(state / "secrets.env")
    assert f"http://127.0.0.1:{project.port}/admin?key={secrets['ADMIN_KEY']}" in project.printed
    for line in ("/register", ".promptly/mail/*.eml", "/v1/chat/completions"):
        assert line in project.printed
    urllib.request.urlopen(f"http://127.0.0.1:{project.port}/health/ready").read()
    visits = int(project.flask("visits"))
    assert visits >= 2

    names = {process.name() for process in project.family()}
    assert {"postgres", "redis-server"} <= {name.split(":")[0] for name in names}
    family = project.family()
    assert project.stop() == 0
    wait_until_gone(family)
    assert not (state / "runtime.env").exists()

    project.start_and_wait()
    assert dotenv_values(state / "secrets.env") == secrets
    assert int(project.flask("visits")) > visits
    assert project.stop() == 0


def test_payments_are_simulated_and_remembered(project: ToyProject) -> None:
    project.start_and_wait()
    assert "Payments are simulated: Stripe and BTCPay Server" in project.printed
    runtime = dotenv_values(project.folder / ".promptly" / "runtime.env")
    api = StripeClient(
        runtime["STRIPE_SECRET_KEY"] or "", base_addresses={"api": runtime["STRIPE_API_BASE"] or ""}
    )
    session = api.v1.checkout.sessions.create(parameters())
    assert (runtime["STRIPE_WEBHOOK_SECRET"] or "").startswith("whsec_")
    invoices = f"{runtime['BTCPAY_URL']}/api/v1/stores/{runtime['BTCPAY_STORE_ID']}/invoices"
    key = {"Authorization": f"token {runtime['BTCPAY_API_KEY']}"}
    asked = {"amount": "2.00", "currency": "USD"}
    invoice = requests.post(invoices, json=asked, headers=key, timeout=10).json()
    assert runtime["BTCPAY_WEBHOOK_SECRET"]
    assert project.stop() == 0

    project.start_and_wait()
    again = dotenv_values(project.folder / ".promptly" / "runtime.env")
    for name in ("STRIPE_SECRET_KEY", "BTCPAY_API_KEY", "BTCPAY_WEBHOOK_SECRET"):
        assert again[name] == runtime[name]
    api = StripeClient(
        again["STRIPE_SECRET_KEY"] or "", base_addresses={"api": again["STRIPE_API_BASE"] or ""}
    )
    assert api.v1.checkout.sessions.retrieve(session.id).status == "open"
    invoices = invoices.replace(runtime["BTCPAY_URL"] or "", again["BTCPAY_URL"] or "")
    found = requests.get(f"{invoices}/{invoice['id']}", headers=key, timeout=10).json()
    assert found["status"] == "New"
    assert project.stop() == 0


def test_a_second_start_in_the_same_folder_says_so(project: ToyProject) -> None:
    project.start_and_wait()
    first, project.process = project.process, None
    output, project.output = project.output, project.folder / "second"
    try:
        project.start()
        assert project.wait() == 1
        assert "already running in this folder" in project.printed
    finally:
        project.process, project.output = first, output
    assert project.stop() == 0


def test_a_port_in_use_stops_the_start_before_anything_is_started(project: ToyProject) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", project.port))
        other.listen()
        project.start()
        assert project.wait() == 1
    assert f"127.0.0.1:{project.port}" in project.printed
    assert "GATEWAY_PORT" in project.printed
    assert not (project.folder / ".promptly" / "postgres").exists()


def test_a_wrong_port_is_named(project: ToyProject) -> None:
    project.start(GATEWAY_PORT="many")
    assert project.wait() == 1
    assert "GATEWAY_PORT must be a port number" in project.printed


def test_configured_services_are_used_instead(project: ToyProject, tmp_path: Path) -> None:
    llama = SimulatedLlama(tmp_path / "llama").start()
    try:
        (project.folder / ".env").write_text(f"LLAMA_BASE_URL={llama.url}\nADMIN_KEY=mine\n")
        project.start_and_wait(
            SMTP_HOST="mail.example.com",
            DATABASE_URL="",
            STRIPE_SECRET_KEY="sk_test_mine",
            BTCPAY_URL="https://btcpay.example.com",
        )
        runtime = dotenv_values(project.folder / ".promptly" / "runtime.env")
        assert runtime["LLAMA_BASE_URL"] == llama.url
        assert runtime["SMTP_HOST"] == "mail.example.com"
        assert not (project.folder / ".promptly" / "mail").exists()
        assert not (project.folder / ".promptly" / "llama").exists()
        # No simulator's setting is mixed with the real provider's.
        assert runtime["STRIPE_SECRET_KEY"] == "sk_test_mine"
        assert not {"STRIPE_API_BASE", "STRIPE_WEBHOOK_SECRET", "BTCPAY_API_KEY"} & set(runtime)
        assert "simulated" not in project.printed
        assert "/admin?key=mine" in project.printed
        assert project.stop() == 0
    finally:
        llama.stop()


def test_a_part_that_ends_stops_all_and_is_named(project: ToyProject) -> None:
    project.start_and_wait()
    family = project.family()
    redis = next(process for process in family if process.name().startswith("redis-server"))
    redis.kill()
    assert project.wait() == 1
    assert "Redis has ended unexpectedly" in project.printed
    wait_until_gone(family)


def test_a_failing_migration_shows_its_end(project: ToyProject) -> None:
    wsgi = project.folder / "wsgi.py"
    wsgi.write_text(wsgi.read_text().replace("CREATE TABLE IF NOT EXISTS", "CREATE TALBE"))
    project.start()
    assert project.wait() == 1
    assert 'syntax error at or near "TALBE"' in project.printed


@pytest.fixture
def in_the_background() -> Iterator[None]:
    """Child processes ignore SIGQUIT, as those that a shell starts with `&` do."""
    before = signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGQUIT, before)


@pytest.mark.usefixtures("in_the_background")
def test_when_the_supervisor_is_killed_its_children_end(project: ToyProject) -> None:
    project.start_and_wait()
    family = project.family()
    assert len(family) > 8
    assert project.process is not None
    project.process.kill()
    project.process.wait()
    wait_until_gone(family)
    project.start_and_wait()
    assert project.stop() == 0


def test_a_stop_during_the_start_leaves_nothing(project: ToyProject) -> None:
    project.start()
    assert project.process is not None
    own = psutil.Process(project.process.pid)
    wait_until(lambda: bool(own.children()), 20, "a first child")
    project.process.send_signal(signal.SIGTERM)
    family = project.family()
    assert project.wait() == 0
    wait_until_gone(family)


def test_a_second_signal_hastens(project: ToyProject) -> None:
    project.start_and_wait()
    family = project.family()
    # A frozen worker never drains; only the second signal ends the wait for it.
    web = [process for process in family if "gunicorn" in " ".join(process.cmdline())]
    for process in web:
        process.suspend()
    assert project.process is not None
    os.kill(project.process.pid, signal.SIGINT)
    wait_until(lambda: "stopping" in project.printed, 20, "the word that it stops")
    os.kill(project.process.pid, signal.SIGINT)
    assert project.wait(15) == 0
    wait_until_gone(family)


def test_two_folders_run_side_by_side(make_project: MakeProject) -> None:
    first, second = make_project("first"), make_project("second")
    first.start()
    second.start_and_wait()
    wait_until(lambda: "is ready" in first.printed, 60, "the other one")
    assert first.stop() == 0
    assert second.stop() == 0
