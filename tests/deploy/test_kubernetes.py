"""deploy/kubernetes: valid, and in step with the image, Compose, the settings and the routes."""

import re
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from flask import Flask
from sqlalchemy import make_url

from promptly.secret import Secret
from promptly.settings import END_SECONDS, Settings
from tests.deploy.compose import production as compose_services
from tests.deploy.image import GID, UID
from tests.deploy.manifests import (
    BASE,
    KUBERNETES,
    PRODUCTION,
    Manifest,
    Workload,
    find,
    render,
    variables_of,
    workloads,
)
from tests.support.servers import VARIABLES

MANIFESTS = render(PRODUCTION)
WORKLOADS = workloads(MANIFESTS)
# Ours by the service of docker-compose.yml that runs the same.
OWN = {"web": "gateway", "worker": "worker", "beat": "beat", "migrate": "migrate"}
# The oldest version that has everything, and the newest that the schemas know.
VERSIONS = ("1.30", "1.37")
PROBES = ("startup", "readiness", "liveness")
# Read by libpq.
OTHER_VARIABLES = {"PGPASSWORD"}
HASH = re.compile(r"\b(promptly|pgbouncer)-[0-9a-z]{10}\b")

CONFIGURATION: dict[str, str] = find(MANIFESTS, "ConfigMap", "promptly")["data"]
SECRETS = variables_of(PRODUCTION / "secret.env.template")


def name_of(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The services of docker-compose.yml."""
    return compose_services(tmp_path_factory.mktemp("project"))


@pytest.fixture(params=OWN)
def own(request: pytest.FixtureRequest) -> Workload:
    """Each of promptly's own workloads."""
    return WORKLOADS[request.param]


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_the_manifests(version: str) -> None:
    for manifest in MANIFESTS:
        assert kubernetes_validate.validate(manifest, version, strict=True) == version


def test_a_mistake_is_found() -> None:
    mistaken = yaml.safe_load((BASE / "beat.yaml").read_text())
    mistaken["spec"]["template"]["spec"]["container"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="container"):
        kubernetes_validate.validate(mistaken, VERSIONS[-1], strict=True)


@pytest.mark.exhaustive
@pytest.mark.kubectl
@pytest.mark.parametrize("folder", [BASE, PRODUCTION], ids=lambda path: path.name)
def test_kubectl_renders_the_same(folder: Path) -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", folder], capture_output=True, text=True, check=True
    )
    rendered = list(yaml.safe_load_all(HASH.sub(r"\1", done.stdout)))
    assert sorted(rendered, key=name_of) == sorted(render(folder), key=name_of)


def test_every_file_is_used() -> None:
    used = {KUBERNETES / "production/secret.env.template"}
    for folder in (BASE, PRODUCTION):
        text = (folder / "kustomization.yaml").read_text()
        used |= {folder / name for name in re.findall(r"[\w-]+\.(?:yaml|env|ini)", text)}
        used.add(folder / "kustomization.yaml")
    assert {path for path in KUBERNETES.rglob("*") if path.is_file()} <= used


def test_the_images(own: Workload) -> None:
    assert own.container["image"].startswith("registry.example.com/promptly:")
    for workload in WORKLOADS.values():
        _, _, tag = workload.container["image"].rpartition(":")
        assert re.fullmatch(r"\d+\.\d+\.\d+", tag), workload.name


def test_the_commands_are_those_of_compose(own: Workload, services: dict[str, Any]) -> None:
    # test_commands.py runs them as the image's user on a read-only file system.
    assert own.container["command"] == services[OWN[own.name]]["command"]


def test_every_variable_is_a_setting() -> None:
    known = {item.name.upper() for item in fields(Settings)} | OTHER_VARIABLES
    assert set(CONFIGURATION) <= known
    assert set(SECRETS) <= known
    for name in OWN:
        container = WORKLOADS[name].container
        assert {item["name"] for item in container.get("env", ())} <= known
        assert container["envFrom"] == [
            {"configMapRef": {"name": "promptly"}},
            {"secretRef": {"name": "promptly"}},
        ]


def test_the_variables_are_complete_and_valid() -> None:
    assert not set(SECRETS.values()) - {""}, "the template has no values"
    missing = {name: VARIABLES[name] for name in ("GATEWAY_SECRET_KEY", "KEY_PEPPER")}
    settings = Settings.from_mapping({**SECRETS, **CONFIGURATION, **missing})
    assert str(settings.gateway_bind) == "0.0.0.0"
    assert settings.gateway_port == WORKLOADS["web"].port("http")
    assert settings.trusted_proxy_hops == 1


def test_secrets_are_in_the_secret_only() -> None:
    settings = Settings.from_mapping(VARIABLES)
    secret = {
        item.name.upper()
        for item in fields(Settings)
        if isinstance(getattr(settings, item.name), Secret) or "secret" in item.name
    }
    assert not secret & set(CONFIGURATION)
    assert set(SECRETS) <= secret | OTHER_VARIABLES | {"SMTP_USER"}
    for name in ("DATABASE_URL", "REDIS_URL"):
        assert make_url(CONFIGURATION[name]).password is None
    assert not [manifest for manifest in MANIFESTS if manifest["kind"] == "Secret"]


def test_the_probes_ask_routes_that_exist(worker_app: Flask) -> None:
    routes = {rule.rule for rule in worker_app.url_map.iter_rules()}
    probes = {name: WORKLOADS["web"].container[f"{name}Probe"] for name in PROBES}
    for probe in probes.values():
        assert probe["httpGet"]["path"] in routes
        assert WORKLOADS["web"].port(probe["httpGet"]["port"])
    paths = {name: probe["httpGet"]["path"] for name, probe in probes.items()}
    # Once started, what all pods need must not take all of them away.
    assert paths == {"startup": "/health/ready", "readiness": "/health", "liveness": "/health"}


@pytest.mark.parametrize("name", ["worker", "beat"])
def test_background_processes_are_probed_as_by_compose(name: str, services: dict[str, Any]) -> None:
    kind, check = services[OWN[name]]["healthcheck"]["test"]
    probe = WORKLOADS[name].container["livenessProbe"]
    assert (kind, probe["exec"]["command"]) == ("CMD-SHELL", ["sh", "-c", check])
    # Restarts in an outage of Redis would delay the recovery.
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 180


def test_a_gateway_is_not_killed_while_it_drains() -> None:
    pod, container = WORKLOADS["web"].pod, WORKLOADS["web"].container
    _, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    settings = Settings.from_mapping(VARIABLES)
    needed = int(seconds) + settings.drain_seconds + END_SECONDS
    assert pod["terminationGracePeriodSeconds"] >= needed + 30
    assert WORKLOADS["web"].manifest["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_there_is_one_beat() -> None:
    spec = WORKLOADS["beat"].manifest["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    budgets = [m for m in MANIFESTS if m["kind"] == "PodDisruptionBudget"]
    # It would keep the node of the only pod from being drained.
    assert {budget["metadata"]["name"] for budget in budgets} == {"web", "worker", "pgbouncer"}


@pytest.mark.parametrize("name", WORKLOADS)
def test_pods_are_restricted(name: str) -> None:
    workload = WORKLOADS[name]
    pod, container = workload.pod, workload.container
    assert pod["automountServiceAccountToken"] is False
    # Kubernetes would set GATEWAY_PORT for a service `gateway`.
    assert pod["enableServiceLinks"] is False
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == context["runAsGroup"] > 0
    if name in OWN:
        assert (context["runAsUser"], context["runAsGroup"]) == (UID, GID)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = [volume for volume in pod["volumes"] if "emptyDir" in volume]
    assert all(volume["emptyDir"]["sizeLimit"] for volume in writable)
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert set(container["resources"]["limits"]) == {"memory"}


def test_a_namespace_refuses_other_pods() -> None:
    namespace = find(MANIFESTS, "Namespace", "promptly")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [manifest for manifest in MANIFESTS if manifest is not namespace]
    assert {manifest["metadata"]["namespace"] for manifest in others} == {"promptly"}


def test_the_documented_order_migrates_before_pods_are_replaced() -> None:
    document = (KUBERNETES.parents[1] / "docs/operating/kubernetes.md").read_text()
    [listed] = re.findall(
        r"-l 'app\.kubernetes\.io/component in \(([a-z, ]+, migrate)\)'", document
    )
    first = set(listed.split(", "))
    labels = {
        name_of(manifest): manifest["metadata"]["labels"]["app.kubernetes.io/component"]
        for manifest in MANIFESTS
    }
    before = {name for name, component in labels.items() if component in first}
    assert {"Namespace/promptly", "ConfigMap/promptly", "Job/migrate"} < before
    assert {"NetworkPolicy/default-deny", "Deployment/pgbouncer", "Service/postgresql"} < before
    after = set(labels) - before
    assert {"Deployment/web", "Deployment/worker", "Deployment/beat"} < after
