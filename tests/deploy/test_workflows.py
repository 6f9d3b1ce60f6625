"""The workflows follow our rules for security, and name only things that exist."""

import re
import shlex
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from promptly.settings import Settings
from tests.deploy.workflows import EXPRESSION, FOLDER, PROJECT, Step, Workflow, workflows

ALL = workflows()
SCRIPTS = [(workflow, step) for workflow in ALL for step in workflow.all_scripts()]

# Everything else may only read the repository.
WRITES = {
    ("deploy-production.yml", "release"): {"contents": "write"},
    ("docs.yml", "publish"): {"pages": "write", "id-token": "write"},
}
SECRETS = {"GATEKEEPER_HOST", "GATEKEEPER_USER", "GATEKEEPER_SSH_KEY"}
VARIABLES = {"GATEKEEPER_KNOWN_HOSTS"}
# Set by the runner, or read by a program that is not ours.
OF_THE_RUNNER = {"GITHUB_SHA", "GITHUB_REF", "GITHUB_WORKSPACE", "RUNNER_TEMP"}
OF_PROGRAMS = {"GH_TOKEN", "GH_REPO", "XDG_CACHE_HOME"}
KEYWORDS = {"echo", "exit", "if", "[", "then", "fi"}
PROGRAMS = KEYWORDS | {"apt-get", "gh", "git", "make", "pipx", "python3"}

each_workflow = pytest.mark.parametrize("workflow", ALL, ids=lambda workflow: workflow.name)
each_script = pytest.mark.parametrize(
    ("workflow", "step"), SCRIPTS, ids=[f"{workflow.name}:{step}" for workflow, step in SCRIPTS]
)


@each_workflow
def test_permissions_are_the_least(workflow: Workflow) -> None:
    assert workflow.content["permissions"] == {}
    for name, job in workflow.jobs.items():
        expected = WRITES.get((workflow.name, name), {"contents": "read"})
        assert job["permissions"] == expected, name


@each_workflow
def test_jobs_end_and_run_on_a_named_system(workflow: Workflow) -> None:
    for name, job in workflow.jobs.items():
        if "uses" not in job:
            assert job["timeout-minutes"] <= 90, name
            assert job["runs-on"] == "ubuntu-24.04", name


@each_workflow
def test_actions_are_githubs_own_at_a_release(workflow: Workflow) -> None:
    for step in workflow.actions():
        assert re.fullmatch(r"actions/[a-z-]+@v\d+\.\d+\.\d+", step["uses"])
        if step["uses"].startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
    for name, job in workflow.jobs.items():
        if "uses" in job:
            called = FOLDER / Path(job["uses"]).name
            assert job["uses"] == f"./{called.relative_to(PROJECT)}", name
            assert "workflow_call" in Workflow(called.name).content["on"]


def test_an_action_has_one_version() -> None:
    used = {step["uses"] for workflow in ALL for step in workflow.actions()}
    assert len({name.partition("@")[0] for name in used}) == len(used)


@each_workflow
def test_no_workflow_runs_foreign_code_with_rights(workflow: Workflow) -> None:
    assert not workflow.content["on"].keys() & {"pull_request_target", "workflow_run", "issues"}


@each_workflow
def test_deploys_have_an_environment_and_are_not_interrupted(workflow: Workflow) -> None:
    for name, job in workflow.jobs.items():
        if "secrets." in str(job):
            group = job.get("concurrency") or workflow.content["concurrency"]
            assert group["cancel-in-progress"] is False, name
            assert job["environment"] in {"staging", "production"}, name


def test_secrets_and_variables_are_the_documented_ones() -> None:
    text = "".join(workflow.text for workflow in ALL)
    assert set(re.findall(r"\bsecrets\.(\w+)", text)) == SECRETS
    assert set(re.findall(r"\bvars\.(\w+)", text)) == VARIABLES
    document = (PROJECT / "CONTRIBUTING.md").read_text()
    assert {name for name in SECRETS | VARIABLES if f"`{name}`" not in document} == set()


@each_workflow
def test_expressions_refer_to_something(workflow: Workflow) -> None:
    inputs = (workflow.content["on"].get("workflow_dispatch") or {}).get("inputs", {})
    known = {f"inputs.{name}" for name in inputs}
    known |= {f"secrets.{name}" for name in SECRETS} | {f"vars.{name}" for name in VARIABLES}
    known |= {"github.ref", "github.token", "github.repository"}
    known |= {"github.event_name == 'pull_request'"}
    for job in workflow.jobs.values():
        known |= {f"matrix.{name}" for name in job.get("strategy", {}).get("matrix", {})}
    known |= {f"steps.{step['id']}.outputs.page_url" for step in workflow.actions() if "id" in step}
    for expression in EXPRESSION.findall(workflow.text):
        hashed = re.fullmatch(r"hashFiles\((.*)\)", expression)
        for pattern in re.findall(r"'([^']+)'", hashed[1]) if hashed else ():
            assert list(PROJECT.glob(pattern)), expression
        assert hashed or expression in known, expression
    assert workflow.text.count("${{") == len(EXPRESSION.findall(workflow.text))


@each_script
def test_scripts_contain_no_expressions(workflow: Workflow, step: Step) -> None:
    # GitHub pastes their values into the script, where an input could become a command.
    assert "${{" not in step.script


@each_script
def test_scripts_name_files_modules_and_targets_that_exist(workflow: Workflow, step: Step) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    uploaded = {action.get("with", {}).get("path") for action in workflow.actions()}
    for line in step.script.replace("\\\n", " ").splitlines():
        command, *arguments = shlex.split(line)
        if command not in PROGRAMS:
            assert (PROJECT / command).stat().st_mode & 0o111, f"{command} is a program"
        if command == "make":
            assert set(arguments) <= targets
        if arguments[:1] == ["-m"]:
            module, *arguments = arguments[1:]
            assert (PROJECT / f"{module.replace('.', '/')}.py").is_file()
        for path in arguments:
            if re.fullmatch(r"[\w.-]+(/[\w.-]+)*\.(txt|toml|json|md|py|sh)", path):
                assert path in uploaded or (PROJECT / path).is_file(), path


@each_script
def test_variables_are_set_and_read(workflow: Workflow, step: Step) -> None:
    named = set(re.findall(r"\$\{?([A-Z_]+)", step.script))
    assert named <= step.env.keys() | OF_THE_RUNNER
    job = "\n".join(other.script for other in workflow.scripts(step.job))
    called = [PROJECT / path for path in re.findall(r"\b(?:deploy|scripts)/[\w.-]+\.\w+", job)]
    text = job + "".join(path.read_text() for path in called if path.is_file())
    settings = {item.name.upper() for item in fields(Settings)}
    assert {name for name in step.env.keys() - settings - OF_PROGRAMS if name not in text} == set()


def test_the_matrix_is_what_we_support() -> None:
    supported = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    first, last = re.findall(r"3\.(\d+)", supported["requires-python"])
    pythons = Workflow("test.yml").jobs["python"]["strategy"]["matrix"]["python"]
    assert pythons == [f"3.{minor}" for minor in range(int(first), int(last))]


def test_the_servers_of_the_tests_are_those_of_production() -> None:
    services = Workflow("test.yml").jobs["python"]["services"]
    production = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]
    for tested, name in (("postgres", "db"), ("redis", "redis")):
        assert production[name]["image"].startswith(services[tested]["image"])


@each_workflow
def test_path_filters_match_files(workflow: Workflow) -> None:
    events = [event for event in workflow.content["on"].values() if isinstance(event, dict)]
    for pattern in (pattern for event in events for pattern in event.get("paths", ())):
        assert list(PROJECT.glob(pattern)), pattern


def test_the_documented_checks_of_main_are_jobs() -> None:
    document = (PROJECT / "CONTRIBUTING.md").read_text()
    [line] = [line for line in document.splitlines() if "Require status checks" in line]
    jobs = Workflow("test.yml").jobs
    pythons = jobs["python"]["strategy"]["matrix"]["python"]
    names = [jobs["python"]["name"].replace("${{ matrix.python }}", python) for python in pythons]
    assert re.findall(r"`([^`]+)`", line) == [*names, jobs["everything"]["name"]]
