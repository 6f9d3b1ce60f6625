import json
import logging
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from promptly.runtime import logs
from promptly.services.accounts import key_format
from tests.support.servers import PROJECT


def formatted(message: str, *arguments: object, **extra: object) -> dict[str, Any]:
    record = logging.LogRecord("promptly.x", logging.INFO, "x.py", 1, message, arguments, None)
    vars(record).update(extra)
    line = logs.JsonFormatter().format(record)
    assert "\n" not in line
    fields: dict[str, Any] = json.loads(line)
    return fields


def test_a_record_is_one_line_of_json() -> None:
    fields = formatted("hello %s", "you", request_id=uuid.UUID(int=5), tokens=3, quoted='a"b\nc')
    assert fields.pop("time").endswith("+00:00")
    assert fields == {
        "level": "info",
        "logger": "promptly.x",
        "message": "hello you",
        "request_id": str(uuid.UUID(int=5)),
        "tokens": 3,
        "quoted": 'a"b\nc',
    }


def test_exceptions_are_logged_with_their_traceback() -> None:
    try:
        raise ValueError("bad")
    except ValueError:
        problem = sys.exc_info()
    fields = formatted("failed", exc_info=problem)
    assert "ValueError: bad" in fields["exception"]
    assert "test_logs.py" in fields["exception"]


@pytest.mark.parametrize(
    "key",
    [
        key_format.generate(),
        # Of model-gateway, with and without `-` and `_`.
        "sk-abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ",
        "sk-a-b_c-d_e-f_g-h_i-j_k-l_m-n_o-p_q-r_s-t_u-v",
        "sk-abcdefghijklmnop-qrstuvwxyz_ABCDEFGHIJKLMNO",
    ],
    ids=["ours", "imported", "many marks", "two marks"],
)
def test_no_key_is_in_any_line(key: str) -> None:
    for fields in (
        formatted(f"refused {key}"),
        formatted("refused", header=f"Bearer {key}"),
        formatted("refused", nested={"a": [key]}),
        formatted(f"GET /dashboard?key={key}&x=1"),
        formatted(f"GET /dashboard?key={key[:20]}%2B"),
        formatted(f"refused {key[:20]}"),
        formatted(f"refused {key[:20]}-"),
    ):
        text = json.dumps(fields)
        assert key not in text
        assert key[12:20] not in text
    assert key_format.prefix(key) in formatted(f"refused {key}")["message"]


@pytest.mark.parametrize(
    ("line", "redacted"),
    [
        ("/admin?key=abc&x=1", "/admin?key=…&x=1"),
        ("/a?x=1&token=abc def", "/a?x=1&token=… def"),
        ("task-list sk-", "task-list sk-"),
        ("monkey=5", "monkey=5"),
    ],
)
def test_redacted_parts(line: str, redacted: str) -> None:
    assert logs.redact(line) == redacted


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, restored after the test."""
    found = logging.getLogger()
    handlers, level = list(found.handlers), found.level
    yield found
    found.handlers[:], found.level = handlers, level


def test_configuring_again_does_not_log_twice(root: logging.Logger) -> None:
    for level in ("info", "warning"):
        logs.configure(level)
    ours = [handler for handler in root.handlers if isinstance(handler, logs.JsonHandler)]
    assert len(ours) == 1
    assert root.level == logging.WARNING


UNCAUGHT = """
import logging, sys, threading, warnings
import gevent
from promptly.runtime import logs
for _ in range(2):
    logs.configure("info")
    logs.capture_uncaught()
print("printed: ?key=secret")
sys.stderr.write("written: ?key=secret\\n")
logging.getLogger("a.library").error("%d: ?key=secret", "no number")
def fail():
    raise ValueError("in vain: ?key=secret\\nand more")
warnings.warn("old: ?key=secret")
threading.Thread(target=fail).start()
gevent.spawn(fail).join()
fail()
"""


def test_what_nobody_caught_is_logged_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNCAUGHT], capture_output=True, text=True, check=False, cwd=PROJECT
    )
    assert done.returncode == 1
    assert not done.stdout
    assert "secret" not in done.stderr
    printed, written, broken, *lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert (printed["text"], written["text"]) == ("printed: ?key=…", "written: ?key=…")
    assert (broken["logger"], broken["reason"]) == ("a.library", "TypeError")
    assert [line["logger"] for line in lines] == ["py.warnings", *["promptly.runtime.logs"] * 3]
    assert all("ValueError: in vain" in line["exception"] for line in lines[1:])


@pytest.mark.parametrize(
    "server",
    [
        ["gunicorn", "-c", str(PROJECT / "gunicorn.conf.py"), "wsgi:app"],
        ["celery", "--quiet", "-A", "wsgi:celery", "worker"],
        ["celery", "--quiet", "-A", "wsgi:celery", "beat", "--pidfile="],
    ],
    ids=["gunicorn", "worker", "beat"],
)
def test_wrong_configuration_is_logged_by_servers(server: list[str], tmp_path: Path) -> None:
    done = run_without_configuration(tmp_path, *server)
    assert done.returncode == 1
    assert not done.stdout
    [line] = [json.loads(line) for line in done.stderr.splitlines()]
    assert line["level"] == "error"
    assert "wrong configuration" in line["message"]
    assert any("DATABASE_URL" in problem for problem in line["problems"])


def test_wrong_configuration_is_text_in_commands(tmp_path: Path) -> None:
    done = run_without_configuration(tmp_path, "flask", "--app", "wsgi", "doctor")
    assert done.returncode == 1
    assert done.stderr.startswith("promptly cannot start: wrong configuration\n  - ")


def run_without_configuration(
    directory: Path, module: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run in a directory without `.env`."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT)},
        timeout=60,
    )
