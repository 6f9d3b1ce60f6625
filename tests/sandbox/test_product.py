"""The product itself under `make run`: the commands that it prints work as printed."""

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from sandbox.process import wait_until
from tests.sandbox.toy_project import ToyProject, real_project, wait_until_gone

pytestmark = pytest.mark.slow


@pytest.fixture
def product(tmp_path: Path) -> Iterator[ToyProject]:
    project = real_project(tmp_path / "product")
    yield project
    project.clean()


def printed_curl(product: ToyProject, mark: str) -> str:
    """Return the printed command that contains `mark`, as a user would paste it."""
    joined = product.printed.replace("\\\n", " ")
    return next(line.strip() for line in joined.splitlines() if mark in line)


def run_in_shell(product: ToyProject, command: str) -> str:
    answer = subprocess.run(
        ["sh", "-c", command], cwd=product.folder, capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_register_chat_and_balance_as_printed(product: ToyProject) -> None:
    product.start_and_wait()
    run_in_shell(product, printed_curl(product, "/register"))
    mail = product.folder / ".promptly" / "mail"
    wait_until(lambda: any(mail.glob("*.eml")), 20, "the mail with the key")
    answer = json.loads(run_in_shell(product, printed_curl(product, "/v1/chat/completions")))
    spent = answer["usage"]["total_tokens"]

    found = re.findall(r"sk-[0-9A-Za-z]{46}", next(mail.glob("*.eml")).read_text())
    base = f"http://127.0.0.1:{product.port}/v1"
    with OpenAI(base_url=base, api_key=found[0]) as client:
        stream = client.chat.completions.create(
            model="any",
            messages=[{"role": "user", "content": "hello [[sim tokens=12]]"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        usages = [chunk.usage for chunk in stream if chunk.usage]
    assert len(usages) == 1
    assert usages[0].completion_tokens == 12
    spent += usages[0].total_tokens

    asked = urllib.request.Request(
        f"{base}/balance", headers={"Authorization": f"Bearer {found[0]}"}
    )
    balance = json.loads(urllib.request.urlopen(asked, timeout=10).read())
    assert balance["available_tokens"] == 100_000 - spent
    assert json.loads(product.flask("ledger", "verify", "--json"))
    family = product.family()
    assert product.stop() == 0
    wait_until_gone(family)
