"""Alert rules: valid, tried by promtool, and explained to the operator who is woken by one."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.monitoring import FOLDER, RULE_TESTS, RULES, alerts, rule_tests
from tests.support.servers import PROJECT

ALERTS = alerts()
RUNBOOKS = "docs/operating/monitoring.md"
UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False
    )


def seconds(duration: str) -> int:
    parts = re.findall(r"(\d+)([dhms])", duration)
    assert "".join(number + unit for number, unit in parts) == duration
    return sum(int(number) * UNITS[unit] for number, unit in parts)


def test_each_rule_file_has_its_tests() -> None:
    assert [path.name for path in RULES] == [path.name for path in RULE_TESTS]
    for path in RULE_TESTS:
        assert yaml.safe_load(path.read_text())["rule_files"] == [f"../rules/{path.name}"]


@pytest.mark.promtool
def test_prometheus_accepts_the_configuration_and_its_rules() -> None:
    done = promtool("check", "config", "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rule files found" in done.stdout


@pytest.mark.promtool
def test_prometheus_accepts_the_documented_jobs(tmp_path: Path) -> None:
    text = (PROJECT / "docs/operating/kubernetes.md").read_text()
    [jobs] = [part for part in re.findall(r"```yaml\n(.*?)```", text, re.S) if "job_name" in part]
    key = tmp_path / "key"
    key.touch()
    jobs, keys = re.subn(r"credentials_file: [\w/-]+", f"credentials_file: {key}", jobs)
    assert keys == 1
    # Debian builds promtool without it.
    jobs = re.sub(r"kubernetes_sd_configs: .*", "static_configs: [{targets: [web:8503]}]", jobs)
    path = tmp_path / "prometheus.yml"
    path.write_text(jobs)
    done = promtool("check", "config", path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.promtool
def test_the_alerts_fire_and_clear() -> None:
    done = promtool("test", "rules", *RULE_TESTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SUCCESS") == len(RULE_TESTS)


@pytest.mark.promtool
def test_a_rule_that_never_fires_is_found(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "tests").mkdir()
    rule = (FOLDER / "rules/stores.yml").read_text()
    (tmp_path / "rules/stores.yml").write_text(rule.replace("redis_up == 0", "redis_up == 2"))
    test = tmp_path / "tests/stores.yml"
    test.write_text((FOLDER / "tests/stores.yml").read_text())
    done = promtool("test", "rules", test)
    assert done.returncode == 1
    assert 'alertname=\\"PromptlyRedisAway' in done.stdout + done.stderr


def firing(name: str, test: dict[str, Any]) -> dict[str, str]:
    """Return the labels with which a test expects an alert to fire, by the time in seconds."""
    found: dict[str, str] = {}
    for case in test["promql_expr_test"]:
        assert case["expr"] == f'ALERTS{{alertname="{name}", alertstate="firing"}}'
        [sample] = case["exp_samples"]
        assert sample["value"] == 1
        found[case["eval_time"]] = sample["labels"]
    return found


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_is_tried_before_during_and_after(name: str) -> None:
    test = rule_tests()[name]
    times = sorted(seconds(time) for time in firing(name, test))
    quiet = [
        seconds(case["eval_time"])
        for case in test["alert_rule_test"]
        if case["alertname"] == name and not case.get("exp_alerts")
    ]
    assert min(quiet) < times[0]
    assert max(quiet) > times[-1]


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_says_what_to_do(name: str) -> None:
    alert = ALERTS[name]
    assert name.startswith("Promptly")
    assert alert["labels"].keys() == {"severity"}
    assert alert["labels"]["severity"] in {"page", "ticket"}
    annotations = alert["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook"}
    assert annotations["runbook"] == f"{RUNBOOKS}#{name.lower()}"
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(annotations.values())))
    for labels in firing(name, rule_tests()[name]).values():
        assert f'severity="{alert["labels"]["severity"]}"' in labels
        assert used <= set(re.findall(r'(\w+)="', labels)), "a label that the alert does not have"


def test_each_alert_has_a_runbook() -> None:
    text = (PROJECT / RUNBOOKS).read_text()
    headings = re.findall(r"^### (Promptly\w+)$", text, re.MULTILINE)
    assert sorted(headings) == sorted(ALERTS)
    listed = re.findall(r"^\| \[(\w+)\]\(#(\w+)\) \| (\w+) \|", text, re.MULTILINE)
    assert sorted(listed) == sorted(
        (name, name.lower(), alert["labels"]["severity"]) for name, alert in ALERTS.items()
    )


def test_alertmanager_routes_alerts_that_exist() -> None:
    configuration = yaml.safe_load((FOLDER / "alertmanager.yml").read_text())
    receivers = {receiver["name"] for receiver in configuration["receivers"]}
    route = configuration["route"]
    assert {route["receiver"], *(child["receiver"] for child in route["routes"])} == receivers
    named = [
        name
        for rule in configuration["inhibit_rules"]
        for matcher in rule["source_matchers"] + rule["target_matchers"]
        for name in re.findall(r"Promptly\w+", matcher)
    ]
    assert set(named) <= set(ALERTS)
