"""Small bodies are received before a request is refused, others are not."""

from io import BytesIO

import pytest
from flask import Flask
from flask.testing import FlaskClient

from promptly.blueprints.refused_bodies import SMALL_BYTES
from tests.conftest import AppFactory

CHAT = "/v1/chat/completions"


@pytest.fixture
def client(app_factory: AppFactory) -> FlaskClient:
    return app_factory(trusted_proxy_hops=1).test_client()


class Broken(BytesIO):
    """The body of a client that goes away."""

    def read(self, size: int | None = -1) -> bytes:
        raise ConnectionResetError


def refuse(client: FlaskClient, body: BytesIO, length: int, **headers: str) -> None:
    answer = client.post(CHAT, input_stream=body, content_length=length, headers=headers)
    assert answer.status_code == 401


@pytest.mark.parametrize("length", [1, 100_000, SMALL_BYTES])
def test_a_small_body_is_received(client: FlaskClient, length: int) -> None:
    body = BytesIO(b" " * length)
    refuse(client, body, length)
    assert body.read() == b""


def test_a_larger_body_is_not_waited_for(client: FlaskClient) -> None:
    body = BytesIO(b" " * (SMALL_BYTES + 1))
    refuse(client, body, SMALL_BYTES + 1)
    assert body.tell() == 0


def test_a_body_that_the_client_holds_back_is_not_asked_for(client: FlaskClient) -> None:
    body = BytesIO(b" ")
    refuse(client, body, 1, Expect="100-continue")
    assert body.tell() == 0


def test_a_client_that_goes_away_is_refused_all_the_same(client: FlaskClient) -> None:
    refuse(client, Broken(), 10)


def test_without_a_proxy_nothing_is_waited_for(app: Flask) -> None:
    body = BytesIO(b" ")
    refuse(app.test_client(), body, 1)
    assert body.tell() == 0
