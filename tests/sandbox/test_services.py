"""Services of `make run` that do not start."""

from pathlib import Path

import pytest

from sandbox.process import SandboxError
from sandbox.services import Services
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
