"""Settings from variables: complete, typed, and with all problems reported at once."""

from dataclasses import fields
from pathlib import Path

import pytest

from promptly.admin_keys import AdminKey
from promptly.secret import Secret
from promptly.setting_fields import SettingsError
from promptly.setting_parsers import model_aliases
from promptly.settings import Settings, from_environment
from tests.support.servers import VARIABLES

SECRETS = ("GATEWAY_SECRET_KEY", "KEY_PEPPER")
KEYS = ("key+of/ada:0123456789-abcdef==", "key+of/bob:0123456789-abcdef==")


def built(**values: str) -> Settings:
    return Settings.from_mapping({**VARIABLES, **values})


def test_required_variables() -> None:
    with pytest.raises(SettingsError) as problem:
        Settings.from_mapping({})
    assert problem.value.problems == [
        f"{name} is not set"
        for name in (
            "DATABASE_URL",
            "REDIS_URL",
            "LLAMA_BASE_URL",
            "GATEWAY_SECRET_KEY",
            "KEY_PEPPER",
        )
    ]


def test_all_problems_are_reported_together_without_secrets() -> None:
    with pytest.raises(SettingsError) as problem:
        built(KEY_PEPPER="too-short", GATEWAY_PORT="x", LOG_LEVEL="loud", TRIAL_TOKENS="-1")
    names = {text.split()[0] for text in problem.value.problems}
    assert names == {"KEY_PEPPER", "GATEWAY_PORT", "LOG_LEVEL", "TRIAL_TOKENS"}
    assert "too-short" not in str(problem.value)


@pytest.mark.parametrize(
    ("values", "drain_seconds"),
    [
        ({}, 600),
        ({"GRACEFUL_TIMEOUT_SECONDS": "60"}, 50),
        ({"GRACEFUL_TIMEOUT_SECONDS": "5"}, 1),
        ({"GRACEFUL_TIMEOUT_SECONDS": "60", "DRAIN_SECONDS": "7"}, 7),
        ({"GRACEFUL_TIMEOUT_SECONDS": "60", "DRAIN_SECONDS": ""}, 50),
    ],
)
def test_the_older_name_of_the_drain(values: dict[str, str], drain_seconds: int) -> None:
    """GRACEFUL_TIMEOUT_SECONDS included the ten seconds for ending requests."""
    assert built(**values).drain_seconds == drain_seconds


def test_an_empty_variable_means_its_default() -> None:
    assert built(GATEWAY_PORT="", TRIAL_TOKENS="", SMTP_HOST="") == built()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("DATABASE_URL", "postgres://h/d", "postgresql+psycopg2://h/d"),
        ("DATABASE_URL", "postgresql://h/d", "postgresql+psycopg2://h/d"),
        ("DATABASE_URL", "postgresql+psycopg2://h/d", "postgresql+psycopg2://h/d"),
        *(
            ("DATABASE_URL", url, url.replace(":", "+psycopg2:", 1))
            for url in (
                "postgresql://u:p%40@h:5432/d?sslmode=require",
                "postgresql://u:p/q#r@h/d",
                "postgresql://u@[::1]:5432/d",
                "postgresql:///d?host=/run/postgresql",
                "postgresql://u@/d?host=/run/postgresql&application_name=a@b",
            )
        ),
        ("REDIS_URL", " unix:///tmp/x.sock ", "unix:///tmp/x.sock"),
        ("REDIS_URL", "rediss://h:1/2", "rediss://h:1/2"),
        ("REDIS_URL", "redis://u:p%2Fq@[::1]:1", "redis://u:p%2Fq@[::1]:1"),
        ("REDIS_URL", "unix://:p@/tmp/x.sock?db=1", "unix://:p@/tmp/x.sock?db=1"),
        ("LLAMA_BASE_URL", "http://a:1/, https://b/x/", ("http://a:1", "https://b/x")),
        ("BASE_URL", "https://example.com/", "https://example.com"),
        ("TRIAL_TOKENS", "1_000_000", 1_000_000),
        ("KEY_REISSUE_CONFIRM", "Yes", True),
        ("KEY_REISSUE_CONFIRM", "off", False),
        ("TRUSTED_HOSTS", "a.example, b.example,", ("a.example", "b.example")),
        ("LOG_LEVEL", "DEBUG", "debug"),
        ("CORS_ORIGINS", " * ", ("*",)),
        ("CORS_ORIGINS", "", ()),
        (
            "CORS_ORIGINS",
            "https://A.example/, http://b:80,https://c:8443, app://obsidian.md",
            ("https://a.example", "http://b", "https://c:8443", "app://obsidian.md"),
        ),
        ("STRIPE_WEBHOOK_SECRET", "one,two", (Secret("one"), Secret("two"))),
        ("BTCPAY_URL", "", ""),
        ("KEY_PEPPER", f"{'a' * 32},{'b' * 32}", Secret(f"{'a' * 32},{'b' * 32}")),
        ("KEY_PEPPER_PREVIOUS", f"{'a' * 32}, {'b' * 32},", (Secret("a" * 32), Secret("b" * 32))),
        (
            "GATEWAY_SECRET_KEY_PREVIOUS",
            f'"{"a" * 30},b", {"c" * 32}',
            (Secret(f"{'a' * 30},b"), Secret("c" * 32)),
        ),
        ("MAILBOX_PEPPER", "", Secret("")),
        (
            "ADMIN_KEYS",
            f"ada:{KEYS[0]}, bob: {KEYS[1]}",
            (AdminKey("ada", Secret(KEYS[0])), AdminKey("bob", Secret(KEYS[1]))),
        ),
    ],
)
def test_values(name: str, text: str, value: object) -> None:
    assert getattr(built(**{name: text}), name.lower()) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DATABASE_URL", "mysql://h/d"),
        ("DATABASE_URL", "postgresql://h:port/d"),
        ("DATABASE_URL", "postgresql://u:xxx@xxx:xxx@h/d"),
        ("DATABASE_URL", "postgresql://u:xxx@xxx@h:5432/d"),
        ("REDIS_URL", "http://h"),
        ("REDIS_URL", "redis://h:port"),
        ("REDIS_URL", "redis://:xxx/xxx@h"),
        ("REDIS_URL", "redis://:xxx[xxx]xxx@h"),
        ("LLAMA_BASE_URL", "llama:8080"),
        ("LLAMA_BASE_URL", " , "),
        ("LLAMA_BASE_URL", "http://h:port"),
        ("LLAMA_BASE_URL", "http://a,http://u:xxx@h"),
        ("LLAMA_EMBEDDINGS_BASE_URL", "http://u@h"),
        ("LLAMA_EMBEDDINGS_BASE_URL", "http://u:xxx/xxx@h"),
        ("BTCPAY_URL", "https://u:xxx@h"),
        ("BASE_URL", "/here"),
        ("GATEWAY_PORT", "70000"),
        ("GATEWAY_PORT", "1.5"),
        ("KEY_REISSUE_CONFIRM", "perhaps"),
        ("SMTP_TLS", "ssl"),
        ("ADMIN_ALLOWED_CIDRS", "10.0.0.1/8"),
        ("CORS_ORIGINS", "*,https://a.example"),
        ("CORS_ORIGINS", "a.example"),
        ("CORS_ORIGINS", "https://a.example/chat"),
        ("CORS_ORIGINS", "https://*"),
        ("CORS_ORIGINS", "null"),
        ("CORS_ORIGINS", "https://bücher.example"),
        ("CORS_ORIGINS", "https://a.example https://b.example"),
        ("CORS_ORIGINS", "https://a.example:"),
        ("CORS_ORIGINS", "https://[::1"),
        ("CHECKPOINT_SECONDS", "60"),
        ("GATEWAY_SECRET_KEY", "x" * 31),
        ("GATEWAY_SECRET_KEY_PREVIOUS", f"{'x' * 32},{'x' * 31}"),
        ("KEY_PEPPER_PREVIOUS", f'"{"x" * 32}'),
        ("MAILBOX_PEPPER", "x" * 31),
        ("ADMIN_KEYS", KEYS[0]),
        ("ADMIN_KEYS", f"admin:{KEYS[0]}"),
        ("ADMIN_KEYS", f"Ada:{KEYS[0]}"),
        ("ADMIN_KEYS", f":{KEYS[0]}"),
        ("ADMIN_KEYS", "ada:"),
        ("ADMIN_KEYS", f"ada:{KEYS[0][:23]}"),
        ("ADMIN_KEYS", f"ada:{KEYS[0]},ada:{KEYS[1]}"),
        ("ADMIN_KEYS", f"ada:{KEYS[0]},bob:{KEYS[0]}"),
    ],
)
def test_values_that_are_refused(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as problem:
        built(**{name: text})
    assert [line.split()[0] for line in problem.value.problems] == [name]
    assert KEYS[0][:8] not in str(problem.value) and "xxx" not in str(problem.value)


def test_the_key_of_two_variables() -> None:
    with pytest.raises(SettingsError) as problem:
        built(ADMIN_KEY=KEYS[0], ADMIN_KEYS=f"ada:{KEYS[0]}")
    assert problem.value.problems == ["ADMIN_KEYS repeats the key of ADMIN_KEY"]


def test_keys_and_their_previous_ones() -> None:
    old, older, secret, pepper = "o" * 32, "p" * 32, *map(VARIABLES.get, SECRETS)
    settings = built(KEY_PEPPER_PREVIOUS=f"{old},{pepper}", GATEWAY_SECRET_KEY_PREVIOUS=older)
    assert [item.reveal() for item in settings.key_peppers] == [pepper, old]
    assert settings.signing_keys == [older, secret]


@pytest.mark.parametrize(
    ("address", "password", "found"),
    [
        ("redis://h:1/2", "", "redis://h:1/2"),
        ("redis://h:1/2", "p@s:/%# x", "redis://:p%40s%3A%2F%25%23%20x@h:1/2"),
        ("rediss://user@h", "new", "rediss://user:new@h"),
        ("redis://user:old@h", "new", "redis://user:old@h"),
        ("unix:///tmp/x.sock?db=1", "new", "unix://:new@/tmp/x.sock?db=1"),
    ],
)
def test_the_password_of_redis(address: str, password: str, found: str) -> None:
    settings = built(REDIS_URL=address, REDIS_PASSWORD=password)
    assert settings.redis_connection_url == found
    assert not password or password not in repr(settings)


def test_secrets_do_not_show_themselves() -> None:
    settings = built(LLAMA_API_KEY="very-secret", STRIPE_WEBHOOK_SECRET="whsec_1,whsec_2")
    shown = f"{settings} {settings!r} {settings.llama_api_key} {settings.key_pepper!r}"
    for private in ("very-secret", "whsec_", VARIABLES["KEY_PEPPER"]):
        assert private not in shown
    assert settings.llama_api_key.reveal() == "very-secret"


def test_every_secret_is_of_the_type_that_hides_itself() -> None:
    for item in fields(Settings):
        if any(
            word in item.name for word in ("secret", "pepper", "password", "api_key", "admin_key")
        ):
            assert any(hiding in str(item.type) for hiding in ("Secret", "AdminKey")), item.name


def test_the_sources_by_their_strength(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [item.name.upper() for item in fields(Settings)]:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".promptly").mkdir()
    runtime = "".join(f"{name}={value}\n" for name, value in VARIABLES.items())
    (tmp_path / ".promptly" / "runtime.env").write_text(
        runtime + "TRIAL_TOKENS=1\nTRIAL_EXPIRY_DAYS=1\nGATEWAY_PORT=1001\n"
    )
    (tmp_path / ".env").write_text("TRIAL_TOKENS=2\nTRIAL_EXPIRY_DAYS=2\nSMTP_PASSWORD='a$B#c'\n")
    monkeypatch.setenv("TRIAL_TOKENS", "3")
    settings = from_environment(tmp_path)
    assert (settings.trial_tokens, settings.trial_expiry_days) == (3, 2)
    assert settings.gateway_port == 1001
    # `$B` in a value is not expanded as a variable.
    assert settings.smtp_password.reveal() == "a$B#c"


@pytest.mark.parametrize(
    ("name", "value", "is_valid"),
    [
        ("OPERATOR_EMAIL", " ops@example.com ", True),
        ("OPERATOR_EMAIL", "root@localhost", True),
        ("OPERATOR_EMAIL", "Ops <ops@example.com>", False),
        ("SUPPORT_EMAIL", "a@example.com,b@example.com", False),
        ("SUPPORT_EMAIL", "help@example.com\nBcc: x@example.com", False),
        ("ADMIN_URL", "http://100.64.0.1:8503/admin/", True),
        ("ADMIN_URL", "http://100.64.0.1:8503", False),
        ("ADMIN_URL", "100.64.0.1/admin", False),
    ],
)
def test_addresses_of_the_operator(name: str, value: str, is_valid: bool) -> None:
    if is_valid:
        expected = value.strip().rstrip("/")
        assert getattr(built(**{name: value}), name.lower()) == expected
    else:
        with pytest.raises(SettingsError, match=f"{name} must"):
            built(**{name: value})


def test_the_panel_is_below_the_site_unless_it_has_an_address() -> None:
    assert built(BASE_URL="https://llm.example.com").panel_url == "https://llm.example.com/admin"
    assert built(ADMIN_URL="http://10.0.0.1/admin").panel_url == "http://10.0.0.1/admin"


def test_aliases_of_models() -> None:
    found = model_aliases(" gpt-4o-mini: org/qwen:Q4_K_M , sonnet:big,")
    assert dict(found) == {"gpt-4o-mini": "org/qwen:Q4_K_M", "sonnet": "big"}
    assert dict(model_aliases("")) == {}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("gpt-4o-mini", "alias:model"),
        (":big", "alias:model"),
        ("a:", "alias:model"),
        ("a:b,a:c", "twice"),
        ("a:" + "x" * 257, "256 characters"),
    ],
)
def test_aliases_that_are_none(value: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=f"MODEL_ALIASES .*{problem}"):
        built(MODEL_ALIASES=value)
