"""docker-compose.yml and its overlays, resolved by Compose itself."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from promptly.settings import Settings
from tests.deploy.compose import (
    BTCPAY,
    OWN,
    PASSWORD,
    PRODUCTION,
    PROJECT,
    STAGING,
    NotAccepted,
    production,
    resolve,
)

Services = dict[str, Any]

FILES = (PRODUCTION, STAGING, BTCPAY)
# A variable, and its default if it has one.
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)(?::-([^}]*))?")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project directory without `.env`."""
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def services(folder: Path) -> Services:
    return production(folder)


@pytest.fixture(scope="module")
def everything(folder: Path) -> Services:
    """All services of all files."""
    found: Services = resolve(folder, BTCPAY, POSTGRES_PASSWORD=PASSWORD)["services"]
    return found


def published(services: Services) -> dict[str, list[str]]:
    return {
        name: [f"{port['host_ip']}:{port['published']}" for port in service["ports"]]
        for name, service in services.items()
        if "ports" in service
    }


def test_the_services_of_production(services: Services) -> None:
    assert set(services) == {"db", "redis", *OWN, "adminer", "nginx"}
    assert services["nginx"]["profiles"] == ["nginx"]
    assert services["db"]["image"] == "postgres:16"
    account = services["db"]["environment"]
    assert account == {
        "POSTGRES_USER": "gateway",
        "POSTGRES_DB": "gateway",
        "POSTGRES_PASSWORD": PASSWORD,
    }
    assert "max_connections=400" in services["db"]["command"]


def test_the_database_alone_needs_only_its_password(folder: Path, services: Services) -> None:
    assert "depends_on" not in services["db"]
    assert published(services)["db"] == ["127.0.0.1:5432"]
    elsewhere = production(folder, POSTGRES_BIND="100.64.0.1", POSTGRES_PORT="5499")
    assert published(elsewhere)["db"] == ["100.64.0.1:5499"]
    with pytest.raises(NotAccepted, match=r"set POSTGRES_PASSWORD in \.env"):
        resolve(folder)


def test_ports_are_published_on_this_machine_only(everything: Services) -> None:
    assert published(everything) == {
        "db": ["127.0.0.1:5432"],
        "listener": ["127.0.0.1:8503"],
        "adminer": ["127.0.0.1:8504"],
        "btcpay": ["127.0.0.1:23000"],
    }


def test_staging_keeps_its_ports_in_an_environment_copied_from_production(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        f"POSTGRES_PASSWORD={PASSWORD}\nGATEWAY_BIND=100.64.0.1\nGATEWAY_PORT=8503\n"
        "ADMINER_PORT=8504\nPOSTGRES_PORT=5432\n"
    )
    assert published(resolve(tmp_path, STAGING)["services"]) == {
        "db": ["127.0.0.1:5433"],
        "listener": ["100.64.0.1:8505"],
        "adminer": ["127.0.0.1:8506"],
    }


def test_staging_shares_nothing_with_production(folder: Path) -> None:
    variables = {"POSTGRES_PASSWORD": PASSWORD, "PROMPTLY_VERSION": "1.4.0"}
    live, staging = resolve(folder, **variables), resolve(folder, STAGING, **variables)
    assert (live["name"], staging["name"]) == ("promptly", "promptly-staging")
    for kind in ("volumes", "networks"):
        both = [{item["name"] for item in model[kind].values()} for model in (live, staging)]
        assert len(both[0]) == len(live[kind])
        assert both[0].isdisjoint(both[1])
    images = [{model["services"][name]["image"] for name in OWN} for model in (live, staging)]
    assert images == [{"promptly:1.4.0"}, {"promptly-staging:1.4.0"}]


def test_one_service_builds_the_image_of_all(services: Services) -> None:
    assert [name for name, service in services.items() if "build" in service] == ["migrate"]
    assert {services[name]["image"] for name in OWN} == {"promptly:latest"}
    for name in ("gateway", "worker", "beat"):
        needs = services[name]["depends_on"]
        assert needs["migrate"]["condition"] == "service_completed_successfully"


@pytest.mark.parametrize("name", OWN)
def test_own_services_are_hardened(services: Services, name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["init"] is True
    # The image's user.
    assert not {"user", "privileged", "cap_add", "devices"} & set(service)
    assert {volume["type"] for volume in service.get("volumes", ())} <= {"volume"}


def test_every_service_is_bounded(everything: Services) -> None:
    for name, service in everything.items():
        assert "no-new-privileges:true" in service["security_opt"], name
        assert int(service["mem_limit"]) > 0, name
        assert service["pids_limit"] > 0, name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")
        _, _, tag = service["image"].partition(":")
        assert tag, name


def test_networks_are_apart(folder: Path, services: Services) -> None:
    members: dict[str, set[str]] = {}
    for name, service in services.items():
        for network in service.get("networks", ()):
            members.setdefault(network, set()).add(name)
    app = {"migrate", "gateway", "worker", "beat"}
    assert members == {
        "edge": {"listener"},
        "app": app,
        "data": {*app, "db", "redis"},
        "adminer": {"adminer", "db"},
    }
    networks = resolve(folder, POSTGRES_PASSWORD=PASSWORD)["networks"]
    assert [name for name, network in networks.items() if network.get("internal")] == ["data"]


def test_what_runs_for_long_has_a_health_check(services: Services) -> None:
    unchecked = {name for name, service in services.items() if "healthcheck" not in service}
    assert unchecked == {"migrate", "adminer", "nginx"}


def test_a_deploy_can_run_two_gateways(services: Services) -> None:
    gateway, listener = services["gateway"], services["listener"]
    assert not {"ports", "container_name"} & set(gateway)
    assert gateway["volumes"] == listener["volumes"]
    path = gateway["environment"]["LISTENER_SOCKET"]
    assert path == listener["environment"]["LISTENER_SOCKET"]
    assert Path(path).is_relative_to(gateway["volumes"][0]["target"])


def test_compose_waits_for_draining_streams(services: Services) -> None:
    drain = next(item for item in fields(Settings) if item.name == "drain_seconds")
    grace = re.fullmatch(r"(\d+)m(\d+)s", services["gateway"]["stop_grace_period"])
    assert grace is not None
    assert int(grace[1]) * 60 + int(grace[2]) >= int(drain.metadata["default"]) + 30


def test_passwords_of_any_characters_arrive_and_no_command_has_them(tmp_path: Path) -> None:
    secret = "p@ss:/w%rd 'x' #1"
    (tmp_path / ".env").write_text(f'POSTGRES_PASSWORD="{secret}"\nREDIS_PASSWORD="{secret}"\n')
    services = resolve(tmp_path)["services"]
    assert services["db"]["environment"]["POSTGRES_PASSWORD"] == secret
    assert services["redis"]["environment"]["REDISCLI_AUTH"] == secret
    for name in ("migrate", "gateway", "worker", "beat"):
        environment = services[name]["environment"]
        assert (environment["PGPASSWORD"], environment["REDIS_PASSWORD"]) == (secret, secret)
    for service in services.values():
        assert secret not in str([service.get("command"), service.get("healthcheck")])


def test_the_applications_read_the_environment_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"POSTGRES_PASSWORD={PASSWORD}\nKEY_PEPPER='a$B#c'\n")
    services = resolve(tmp_path)["services"]
    peppers = {name: services[name].get("environment", {}).get("KEY_PEPPER") for name in OWN}
    assert peppers.pop("listener") is None
    assert set(peppers.values()) == {"a$B#c"}


@pytest.mark.parametrize("name", FILES)
def test_every_variable_is_in_the_template_with_its_default(name: str) -> None:
    lines = (PROJECT / ".env.template").read_text()
    template = dict(re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", lines, re.MULTILINE))
    used = VARIABLE.findall((PROJECT / name).read_text())
    assert used
    for variable, default in used:
        assert template[variable] == default
