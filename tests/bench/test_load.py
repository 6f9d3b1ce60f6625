"""The load generator in front of a server that does not answer."""

import socket

import pytest

from bench import load
from bench.client import Client
from bench.plans import plain


def test_a_late_answer_is_not_taken_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_ANSWER_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        plan = plain(1, 1.0, bare_proxy=True)
        plan.port = server.getsockname()[1]
        client = Client(plan)
        line = client.main_line()
        first, _ = server.accept()
        load.closed_loop(client, [line], 0.0)
        assert client.result.errors["no answer"] == 1
        assert line.answer is None
        with first:
            first.settimeout(10)
            while first.recv(65536):  # the request, then the end of the connection
                pass
        second, _ = server.accept()
        with second, line.sock:
            client.send(line)
            assert second.recv(4) == b"POST"
