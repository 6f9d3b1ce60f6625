"""No address and no mailbox is readable in Redis."""

from ipaddress import ip_network

import pytest
import redis
from flask import Flask

from promptly import pseudonyms
from promptly.secret import Secret
from promptly.services.accounts import keys
from promptly.transactions import transaction
from tests.conftest import AppFactory
from tests.support import factories
from tests.support.model_gateway import hashed, new_key

ADMIN_KEY = "the-operators-key-0123456789-abcdefgh"
EMAIL = "newcomer@example.com"
EVERYBODY = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def pseudonym(app: Flask, text: str) -> str:
    with app.app_context():
        return pseudonyms.pseudonym(text)


def test_they_depend_on_the_text_and_the_pepper(app_factory: AppFactory) -> None:
    app, other = app_factory(), app_factory(key_pepper=Secret("another pepper" * 3))
    first = pseudonym(app, "203.0.113.77")
    assert first == pseudonym(app, "203.0.113.77") and len(first) == 24
    assert first not in {pseudonym(app, "203.0.113.78"), pseudonym(other, "203.0.113.77")}


@pytest.mark.parametrize("peer", ["203.0.113.77", "2001:db8:77::9"])
def test_a_walk_leaves_none_in_redis(app_factory: AppFactory, redis_url: str, peer: str) -> None:
    app = app_factory(admin_key=Secret(ADMIN_KEY), admin_allowed_cidrs=EVERYBODY)
    imported = new_key()
    with app.app_context(), transaction():
        user = factories.user(paid_tokens=1000)
        keys.add_imported(user.id, imported[:12], hashed(imported))
        _, key = factories.api_key(user.id)
    wrong = imported[:12] + new_key()[12:]
    client = app.test_client()
    client.environ_base["REMOTE_ADDR"] = peer
    for given in (key, wrong, "sk-no-key", imported):
        client.get("/v1/models", headers={"Authorization": f"Bearer {given}"})
        client.post("/session", data={"key": given})
    for email in (EMAIL, "not an address"):
        client.post("/register", data={"email": email})
    for path in ("/", "/v1/unknown", "/dashboard", "/dashboard/usage.csv", "/dashboard?key=wrong"):
        client.get(path)
    client.get("/admin?key=wrong")
    client.post("/webhooks/stripe", data=b"{}")
    with redis.Redis.from_url(redis_url) as store:
        names = "\n".join(name.decode() for name in store.scan_iter())
    for part in ("LIMITER", "promptly:rate:ip", "wrong-keys:ip", "admin:wrong"):
        assert part in names
    network = peer.partition("::")[0]
    for private in (network, EMAIL, EMAIL.partition("@")[0], "sk-no-key"):
        assert private not in names
