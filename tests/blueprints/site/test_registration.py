import re
from collections import Counter

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.pool import QueuePool

from promptly.blueprints.site import registration
from promptly.blueprints.site.registration import ANSWER_SECONDS
from promptly.extensions import db
from promptly.models import OutboxMail, User
from promptly.services.accounts import keys
from promptly.tasks import mail
from promptly.transactions import transaction
from sandbox.mail import MailCatcher
from tests.conftest import AppFactory
from tests.support import factories
from tests.support.races import run


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "ANSWER_SECONDS", 0.0)


def test_the_form(client: FlaskClient) -> None:
    page = client.get("/register").get_data(as_text=True)
    assert 'name="email"' in page and "100,000" in page


def test_known_and_new_addresses_get_the_same_page(app: Flask, client: FlaskClient) -> None:
    with app.app_context(), transaction():
        factories.user("known@example.com")
    pages = []
    for address in ("known@example.com", "fresh@example.com"):
        answer = client.post("/register", data={"email": address})
        assert answer.status_code == 200
        pages.append(answer.get_data(as_text=True).replace(address, "…"))
    assert pages[0] == pages[1]
    with app.app_context():
        assert db.session.query(OutboxMail).count() == 2


def test_the_old_key_is_refused_from_the_reissue_on(app: Flask, client: FlaskClient) -> None:
    with app.app_context(), transaction():
        user = factories.user("known@example.com")
        _, raw = factories.api_key(user.id)
    assert client.post("/session", data={"key": raw}).status_code == 303
    assert client.get("/dashboard").status_code == 200
    app.test_client().post("/register", data={"email": "known@example.com"})
    with app.app_context():
        assert keys.find(raw, app.extensions["settings"].key_pepper) is None
    answer = client.get("/dashboard")
    assert (answer.status_code, answer.location) == (303, "/")


@pytest.mark.parametrize("email", ["", "nobody", "a@b", "<script>alert(1)</script>@example.com"])
def test_an_invalid_address(app: Flask, client: FlaskClient, email: str) -> None:
    answer = client.post("/register", data={"email": email})
    assert answer.status_code == 400
    page = answer.get_data(as_text=True)
    assert 'aria-invalid="true"' in page and "<script>" not in page
    with app.app_context():
        assert db.session.query(User).count() == 0


def test_registrations_of_one_client_are_limited(app_factory: AppFactory) -> None:
    client = app_factory(registration_rate_limit=2).test_client()
    for number in range(2):
        data = {"email": f"user{number}@example.com"}
        assert client.post("/register", data=data).status_code == 200
    answer = client.post("/register", data={"email": "user3@example.com"})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert "Too many requests" in answer.get_data(as_text=True)
    assert client.get("/register").status_code == 200


def test_registrations_of_one_mailbox_are_limited(app_factory: AppFactory) -> None:
    app = app_factory(trusted_proxy_hops=1)
    statuses = [
        app.test_client()
        .post(
            "/register",
            data={"email": spelling},
            headers={"X-Forwarded-For": f"192.0.2.{number}"},
        )
        .status_code
        for number, spelling in enumerate(
            ["ada@example.com", "Ada@example.com", "ada+x@example.com", "ADA@example.com"]
        )
    ]
    assert statuses == [200, 200, 200, 429]


def test_one_ipv6_network_is_one_client(app_factory: AppFactory) -> None:
    client = app_factory(trusted_proxy_hops=1, registration_rate_limit=1).test_client()
    addresses = ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1"]
    statuses = [
        client.post(
            "/register",
            data={"email": f"user{number}@example.com"},
            headers={"X-Forwarded-For": address},
        ).status_code
        for number, address in enumerate(addresses)
    ]
    assert statuses == [200, 429, 200]


def test_without_redis_registration_works_and_is_limited(app_factory: AppFactory) -> None:
    app = app_factory(redis_url="redis://127.0.0.1:1/0", registration_rate_limit=2)
    client = app.test_client()
    statuses = [
        client.post("/register", data={"email": f"user{number}@example.com"}).status_code
        for number in range(3)
    ]
    assert statuses == [200, 200, 429]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://elsewhere.example"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "http://127.0.0.1:8503"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Referer": "http://localhost/register"}, 200),
        ({"Referer": "https://evil.example/http://localhost"}, 403),
        ({"Origin": "http://localhost", "Referer": "https://evil.example/"}, 200),
    ],
)
def test_forms_of_other_sites_are_refused(
    client: FlaskClient, headers: dict[str, str], status: int
) -> None:
    answer = client.post("/register", data={"email": "a@example.com"}, headers=headers)
    assert answer.status_code == status


def test_a_confirmed_reissue(app_factory: AppFactory, mail_catcher: MailCatcher) -> None:
    app = app_factory(
        smtp_host=mail_catcher.host, smtp_port=mail_catcher.port, key_reissue_confirm=True
    )
    client = app.test_client()
    with app.app_context(), transaction():
        user = factories.user("ada@example.com")
        _, raw = factories.api_key(user.id)
    client.post("/register", data={"email": "ada@example.com"})
    run(app, mail.sweep)
    part = mail_catcher.messages("ada@example.com")[0].get_body(("plain",))
    assert part is not None
    found = re.search(r"/register/confirm\?token=\S+", part.get_content())
    assert found is not None
    link = found.group()
    for _ in range(2):  # a mail scanner following the link changes nothing
        assert client.get(link).status_code == 200
    with app.app_context():
        assert keys.find(raw, app.extensions["settings"].key_pepper) is not None
    token = link.partition("token=")[2]
    assert client.post("/register/confirm", data={"token": token}).status_code == 200
    assert client.post("/register/confirm", data={"token": token}).status_code == 400
    assert client.get("/register/confirm?token=forged").status_code == 400
    with app.app_context():
        assert keys.find(raw, app.extensions["settings"].key_pepper) is None
    run(app, mail.sweep)
    assert len(mail_catcher.messages("ada@example.com")) == 2


def test_a_missing_database_is_a_503(app_factory: AppFactory) -> None:
    app = app_factory(database_url="postgresql://nobody@127.0.0.1:1/none")
    answer = app.test_client().post("/register", data={"email": "a@example.com"})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] and answer.headers["x-request-id"].startswith("req_")


class Clock:
    """Records the waits of registrations, and the database connections open meanwhile."""

    def __init__(self, app: Flask) -> None:
        self.waits: list[float] = []
        self.connections: list[int] = []
        self._app = app

    def monotonic(self) -> float:
        return 1000.0

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        with self._app.app_context():
            pool = db.engine.pool
        assert isinstance(pool, QueuePool)
        self.connections.append(pool.checkedout())


def test_how_long_it_takes_says_nothing(
    app_factory: AppFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_factory(trials_per_day=1)
    clock = Clock(app)
    monkeypatch.setattr(registration, "ANSWER_SECONDS", ANSWER_SECONDS)
    monkeypatch.setattr(registration, "time", clock)
    # New, known, without a trial today, and over the limit of one mailbox.
    addresses = ["new@example.com", "new@example.com", "other@example.com"]
    addresses += ["new+x@example.com", "n.e.w@example.com", "new@example.com"]
    statuses = [
        app.test_client().post("/register", data={"email": address}).status_code
        for address in addresses
    ]
    assert statuses == [200, 200, 200, 200, 200, 429]
    assert clock.waits == [ANSWER_SECONDS] * 6 and ANSWER_SECONDS >= 0.5
    assert clock.connections == [0] * 6


def test_the_page_is_the_same_without_a_trial(app_factory: AppFactory) -> None:
    client = app_factory(trials_per_day=1).test_client()
    pages = [
        client.post("/register", data={"email": address}).text.replace(address, "…")
        for address in ("first@example.com", "first@example.com", "second@example.com")
    ]
    assert pages[0] == pages[1] == pages[2]
    assert "while the day's trials last" in client.get("/register").text
    assert "while the day's trials last" in client.get("/").text


def test_mistyped_addresses_use_up_no_registration(app_factory: AppFactory) -> None:
    app = app_factory(registration_rate_limit=2)
    client = app.test_client()
    for _ in range(12):
        assert client.post("/register", data={"email": "nobody@"}).status_code == 400
    statuses = [
        client.post("/register", data={"email": f"user{number}@example.com"}).status_code
        for number in range(3)
    ]
    assert statuses == [200, 200, 429]


def test_mistyped_addresses_have_a_limit_of_their_own(client: FlaskClient) -> None:
    statuses = Counter(
        client.post("/register", data={"email": "nobody"}).status_code for _ in range(65)
    )
    assert statuses == {400: 60, 429: 5}
    assert client.post("/register", data={"email": "ada@example.com"}).status_code == 200


def test_dots_do_not_lift_the_limit_of_a_mailbox(client: FlaskClient) -> None:
    spellings = ["ada@gmail.com", "a.da@gmail.com", "ad.a@googlemail.com", "a.d.a@gmail.com"]
    statuses = [
        client.post("/register", data={"email": spelling}).status_code for spelling in spellings
    ]
    assert statuses == [200, 200, 200, 429]
