"""Services of `make run`: those that do not start, and several simulated models."""

from pathlib import Path

import pytest
import urllib3

from sandbox.process import SandboxError
from sandbox.services import MODELS_VARIABLE, Services
from sandbox.supervisor import Supervisor


def test_every_failure_is_reported(tmp_path: Path) -> None:
    names = ("DATABASE_URL", "REDIS_URL", "STRIPE_SECRET_KEY", "BTCPAY_URL")
    llama, mail = tmp_path / "llama", tmp_path / "mail"
    for taken in (llama, mail):
        taken.write_text("a file where the service needs its folder")
    services = Services(
        tmp_path, tmp_path / "log", Supervisor(), dict.fromkeys(names, "elsewhere"), "http://site"
    )
    with pytest.raises(SandboxError) as caught:
        services.start()
    assert str(llama) in str(caught.value)
    assert str(mail) in str(caught.value)


def test_several_simulated_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODELS_VARIABLE, "small,large")
    services = Services(tmp_path, tmp_path / "log", Supervisor(), {}, "http://site")
    services.logs.mkdir()
    llama = services._start_llama()
    try:
        listed = urllib3.request("GET", f"{services.found['LLAMA_BASE_URL']}/v1/models").json()
        states = {entry["id"]: entry["status"]["value"] for entry in listed["data"]}
        assert states == {"small": "loaded", "large": "loaded"}
    finally:
        llama.stop()
