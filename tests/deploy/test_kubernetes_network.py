"""deploy/kubernetes: who can connect to whom, what selects which pods, and PgBouncer's limits."""

from collections.abc import Iterator
from configparser import ConfigParser

import pytest
from sqlalchemy import make_url

from promptly.runtime.database import POOL_SIZE_IN_ALL
from tests.deploy.manifests import PRODUCTION, Manifest, find, render, selects, workloads

MANIFESTS = render(PRODUCTION)
WORKLOADS = workloads(MANIFESTS)
POLICIES = [manifest for manifest in MANIFESTS if manifest["kind"] == "NetworkPolicy"]
CONFIGURATION: dict[str, str] = find(MANIFESTS, "ConfigMap", "promptly")["data"]
# Pods by name. These two are not promptly's own.
PODS = {name: workload.labels for name, workload in WORKLOADS.items()} | {
    "postgresql": {"cnpg.io/cluster": "promptly-db"},
    "redis": {"app.kubernetes.io/name": "redis"},
}
NAMESPACE_NAME = "kubernetes.io/metadata.name"
# Of pods that are not in promptly's own.
NAMESPACES = {"postgresql": "data", "redis": "data"}
PORTS = {"web": 8503, "pgbouncer": 6432, "postgresql": 5432, "redis": 6379}
ALLOWED = {
    ("web", "pgbouncer"), ("worker", "pgbouncer"), ("beat", "pgbouncer"), ("migrate", "pgbouncer"),
    ("web", "redis"), ("worker", "redis"), ("beat", "redis"), ("migrate", "redis"),
    ("pgbouncer", "postgresql"),
}  # fmt: skip


@pytest.fixture(scope="module")
def pgbouncer() -> ConfigParser:
    parser = ConfigParser(comment_prefixes=(";",))
    parser.read_string(find(MANIFESTS, "ConfigMap", "pgbouncer")["data"]["pgbouncer.ini"])
    return parser


def rules(pod: str, direction: str) -> Iterator[Manifest]:
    """Yield the rules of one direction, Ingress or Egress, that apply to a pod."""
    for policy in POLICIES:
        spec = policy["spec"]
        if direction in spec["policyTypes"] and selects(spec["podSelector"], PODS[pod]):
            yield from spec.get(direction.lower(), ())


def permits(pod: str, direction: str, other: str, target: str) -> bool:
    """Return whether a pod's rules allow a connection with another pod, to the target's port."""
    return any(
        "podSelector" in peer
        and selects(peer["podSelector"], PODS[other])
        and namespace_of(peer) == NAMESPACES.get(other, "promptly")
        for rule in rules(pod, direction)
        if PORTS[target] in numbers(rule, target)
        for peer in rule["from" if direction == "Ingress" else "to"]
    )


def namespace_of(peer: Manifest) -> str:
    selector = peer.get("namespaceSelector", {"matchLabels": {NAMESPACE_NAME: "promptly"}})
    return str(selector["matchLabels"][NAMESPACE_NAME])


def numbers(rule: Manifest, target: str) -> set[int]:
    """Return the TCP ports of a rule; names are those of the target's container."""
    names = {}
    if target in WORKLOADS:
        ports = WORKLOADS[target].container.get("ports", ())
        names = {port["name"]: port["containerPort"] for port in ports}
    found = {item["port"] for item in rule["ports"] if item["protocol"] == "TCP"}
    return {names.get(port, port) for port in found}


def can_connect(source: str, target: str) -> bool:
    # PostgreSQL and Redis may have rules of their own.
    entered = target not in WORKLOADS or permits(target, "Ingress", source, target)
    return entered and permits(source, "Egress", target, target)


def test_everything_is_denied_that_is_not_allowed() -> None:
    [deny] = [policy for policy in POLICIES if policy["metadata"]["name"] == "default-deny"]
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    pairs = {(source, target) for source in WORKLOADS for target in PORTS if source != target}
    assert {pair for pair in pairs if can_connect(*pair)} == ALLOWED


INGRESS = {"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: "ingress"}}}
PROMETHEUS = {
    "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: "monitoring"}},
    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}},
}


@pytest.mark.parametrize(
    ("pod", "port", "peers"),
    [
        ("web", "http", [INGRESS, PROMETHEUS]),
        ("worker", "metrics", [PROMETHEUS]),
        ("beat", None, []),
        ("migrate", None, []),
    ],
)
def test_only_the_ingress_controller_and_prometheus_reach_promptly(
    pod: str, port: str | None, peers: list[Manifest]
) -> None:
    reached = list(rules(pod, "Ingress"))
    assert [peer for rule in reached for peer in rule["from"]] == peers
    for rule in reached:
        assert port is not None
        # A rule may also name a port that only other pods have.
        opened = {number for number in numbers(rule, pod) if isinstance(number, int)}
        assert opened == {WORKLOADS[pod].port(port)}


def test_workers_answer_prometheus_at_the_port_that_is_open() -> None:
    assert int(CONFIGURATION["WORKER_METRICS_PORT"]) == WORKLOADS["worker"].port("metrics")
    assert CONFIGURATION["WORKER_METRICS_BIND"] == "0.0.0.0"


@pytest.mark.parametrize(
    ("pod", "goes_out"), [("web", True), ("worker", True), ("beat", False), ("migrate", False)]
)
def test_public_addresses_are_reached_by_those_that_need_them(pod: str, goes_out: bool) -> None:
    blocks = [
        peer["ipBlock"] for rule in rules(pod, "Egress") for peer in rule["to"] if "ipBlock" in peer
    ]
    assert bool(blocks) == goes_out
    # Such as the cloud's metadata service.
    assert all("169.254.0.0/16" in block["except"] for block in blocks)


def test_every_policy_applies_to_a_pod() -> None:
    for policy in POLICIES:
        selector = policy["spec"]["podSelector"]
        assert any(selects(selector, labels) for labels in PODS.values()), policy["metadata"]


def test_every_pod_resolves_names() -> None:
    for pod in WORKLOADS:
        protocols = [
            (item["protocol"], item["port"])
            for rule in rules(pod, "Egress")
            for item in rule["ports"]
        ]
        assert {("UDP", 53), ("TCP", 53)} <= set(protocols), pod


@pytest.mark.parametrize("kind", ["Deployment", "PodDisruptionBudget"])
def test_selectors_select_their_own_pods(kind: str) -> None:
    for manifest in MANIFESTS:
        if manifest["kind"] == kind:
            selected = [n for n in PODS if selects(manifest["spec"]["selector"], PODS[n])]
            assert selected == [manifest["metadata"]["name"]]


def test_services_lead_to_ports_that_exist() -> None:
    for manifest in MANIFESTS:
        if manifest["kind"] == "Service" and "selector" in manifest["spec"]:
            selector = {"matchLabels": manifest["spec"]["selector"]}
            [name] = [pod for pod in PODS if selects(selector, PODS[pod])]
            for port in manifest["spec"]["ports"]:
                assert WORKLOADS[name].port(port["targetPort"]) == PORTS[name]


def test_the_configured_addresses_are_services() -> None:
    services = {m["metadata"]["name"]: m["spec"] for m in MANIFESTS if m["kind"] == "Service"}
    database, redis = (make_url(CONFIGURATION[name]) for name in ("DATABASE_URL", "REDIS_URL"))
    assert (database.host, database.port) == (
        "pgbouncer",
        services["pgbouncer"]["ports"][0]["port"],
    )
    assert (redis.host, redis.port) == ("redis", PORTS["redis"])
    assert services["redis"]["type"] == "ExternalName"


def test_the_autoscaler_and_the_ingress_lead_to_the_gateway() -> None:
    scaler = find(MANIFESTS, "HorizontalPodAutoscaler", "web")["spec"]
    assert scaler["scaleTargetRef"]["name"] == "web"
    # The autoscaler's number must not be reset by each `kubectl apply`.
    assert "replicas" not in WORKLOADS["web"].manifest["spec"]
    [rule] = find(MANIFESTS, "Ingress", "web")["spec"]["rules"]
    assert CONFIGURATION["BASE_URL"] == f"https://{rule['host']}"
    [path] = rule["http"]["paths"]
    backend = path["backend"]["service"]
    ports = find(MANIFESTS, "Service", backend["name"])["spec"]["ports"]
    assert backend["port"]["name"] in {port["name"] for port in ports}


def test_pgbouncer_serves_the_database_of_the_url(pgbouncer: ConfigParser) -> None:
    url = make_url(CONFIGURATION["DATABASE_URL"])
    [(name, target)] = pgbouncer.items("databases")
    options = dict(option.split("=") for option in target.split())
    assert name == url.database == options["dbname"]
    assert find(MANIFESTS, "Service", options["host"])
    assert int(options["port"]) == PORTS["postgresql"]
    own = pgbouncer["pgbouncer"]
    assert int(own["listen_port"]) == WORKLOADS["pgbouncer"].port("postgresql") == url.port
    # promptly needs this (docs/operating/README.md).
    assert own["pool_mode"] == "transaction"
    assert own["ignore_startup_parameters"] == "options"


def test_pgbouncer_finds_its_files(pgbouncer: ConfigParser) -> None:
    container = WORKLOADS["pgbouncer"].container
    volumes = {volume["name"]: volume for volume in WORKLOADS["pgbouncer"].pod["volumes"]}
    mounted = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    assert mounted["/etc/pgbouncer/config"]["configMap"]["name"] == "pgbouncer"
    assert container["command"] == ["pgbouncer", "/etc/pgbouncer/config/pgbouncer.ini"]
    folder, _, file = pgbouncer["pgbouncer"]["auth_file"].rpartition("/")
    assert (mounted[folder]["secret"]["secretName"], file) == ("pgbouncer", "userlist.txt")


def test_one_pgbouncer_can_serve_all_clients(pgbouncer: ConfigParser) -> None:
    """Even during a rollout, in which old pods drain while new ones serve."""
    most = find(MANIFESTS, "HorizontalPodAutoscaler", "web")["spec"]["maxReplicas"]
    container = WORKLOADS["web"].container
    concurrency = {item["name"]: item["value"] for item in container["env"]}["WEB_CONCURRENCY"]
    needed = 2 * most * int(concurrency) * POOL_SIZE_IN_ALL + 100
    assert int(pgbouncer["pgbouncer"]["max_client_conn"]) >= needed
