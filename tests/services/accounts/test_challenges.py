import base64
import json
import time
from collections.abc import Callable
from typing import Any

import altcha
import pytest
from flask import Flask

from promptly.errors import InvalidRequest
from promptly.runtime.redis_client import HotPathRedis
from promptly.secret import Secret
from promptly.services.accounts import challenges
from promptly.services.accounts.challenges import Challenges
from tests.conftest import AppFactory
from tests.support.races import together
from tests.support.servers import make_settings

SETTINGS = make_settings()


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(challenges, "COST", 10)


@pytest.fixture
def made() -> Challenges:
    """Challenges whose Redis is away."""
    return Challenges(SETTINGS, HotPathRedis("redis://127.0.0.1:1/0"))


def solved(challenge: dict[str, Any]) -> dict[str, Any]:
    solution = altcha.solve_challenge(altcha.Challenge.from_dict(challenge))
    assert solution is not None
    return {"challenge": challenge, "solution": solution.to_dict()}


def encode(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def test_a_solution_works_once_also_without_redis(made: Challenges) -> None:
    solution = encode(solved(made.create()))
    made.spend(solution)
    for again in (solution, encode(solved_again := json.loads(base64.b64decode(solution)))):
        with pytest.raises(InvalidRequest, match="already"):
            made.spend(again)
    # Also as other bytes.
    solved_again["solution"]["time"] = 7
    with pytest.raises(InvalidRequest, match="already"):
        made.spend(encode(solved_again))


def test_of_processes_and_requests_one_spends_a_solution(app_factory: AppFactory) -> None:
    apps = [app_factory() for _ in range(2)]
    [first, second] = [Challenges(SETTINGS, app.extensions["hot_path_redis"]) for app in apps]
    solution = encode(solved(first.create()))

    def spend(one: Challenges) -> bool:
        try:
            one.spend(solution)
        except InvalidRequest:
            return False
        return True

    results = together(apps[0], *[lambda one=one: spend(one) for one in (first, second) * 3])
    assert sum(results) == 1


def test_an_expired_challenge(made: Challenges, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(challenges, "VALID_SECONDS", -1)
    with pytest.raises(InvalidRequest, match="expired"):
        made.spend(encode(solved(made.create())))


def easier(value: dict[str, Any]) -> None:
    value["challenge"]["parameters"]["keyPrefix"] = ""


def later(value: dict[str, Any]) -> None:
    value["challenge"]["parameters"]["expiresAt"] += 3600


def other_nonce(value: dict[str, Any]) -> None:
    value["challenge"]["parameters"]["nonce"] = "00" * 16


def unsigned(value: dict[str, Any]) -> None:
    del value["challenge"]["signature"]


def unsolved(value: dict[str, Any]) -> None:
    value["solution"]["counter"] += 1


def huge(value: dict[str, Any]) -> None:
    value["solution"]["counter"] = 2**40


def fractional(value: dict[str, Any]) -> None:
    # The signature is that of a JavaScript number, which has no other spelling.
    value["challenge"]["parameters"]["cost"] = 10.0


@pytest.mark.parametrize(
    "change", [easier, later, other_nonce, unsigned, unsolved, huge, fractional]
)
def test_what_was_changed_is_refused(
    made: Challenges, change: Callable[[dict[str, Any]], None]
) -> None:
    value = solved(made.create())
    change(value)
    with pytest.raises(InvalidRequest, match="not solved correctly") as caught:
        made.spend(encode(value))
    assert caught.value.param == "altcha"


@pytest.mark.parametrize(
    "payload",
    ["x", "é", "AAAA", encode([]), encode({}), encode("x"), encode({"challenge": 1}), "W1tb" * 3000,
     encode({"challenge": {"parameters": []}, "solution": {}})],
)  # fmt: skip
def test_what_is_no_solution_is_refused(made: Challenges, payload: str) -> None:
    with pytest.raises(InvalidRequest, match="not solved correctly"):
        made.spend(payload)


def test_a_missing_solution(made: Challenges) -> None:
    with pytest.raises(InvalidRequest, match="altcha"):
        made.spend("")


def test_a_challenge_of_another_installation(made: Challenges) -> None:
    settings = make_settings(gateway_secret_key=SETTINGS.key_pepper)
    other = Challenges(settings, HotPathRedis("redis://127.0.0.1:1/0"))
    with pytest.raises(InvalidRequest, match="not solved correctly"):
        made.spend(encode(solved(other.create())))


def test_both_keys_are_accepted_while_processes_change() -> None:
    old, new = SETTINGS.gateway_secret_key, Secret("a new signing key, long enough")
    redis = HotPathRedis("redis://127.0.0.1:1/0")
    announced = Challenges(make_settings(gateway_secret_key_previous=(new,)), redis)
    switched = Challenges(
        make_settings(gateway_secret_key=new, gateway_secret_key_previous=(old,)), redis
    )
    announced.spend(encode(solved(switched.create())))
    switched.spend(encode(solved(announced.create())))
    after = Challenges(make_settings(gateway_secret_key=new), redis)
    after.spend(encode(solved(switched.create())))


def test_it_expires_when_the_page_has_had_time(app: Flask) -> None:
    one = Challenges(SETTINGS, app.extensions["hot_path_redis"])
    parameters = one.create()["parameters"]
    left = parameters["expiresAt"] - time.time()
    assert 600 < left <= 1200
    assert parameters["cost"] == 10 and parameters["keyPrefix"] == "00"
