"""The steps of the deploy workflows, run in a shell: their order, and what a failure stops."""

import pytest

from tests.deploy.workflows import Workflow
from tests.deploy.world import NOTES, URL, VERSION, World

pytestmark = pytest.mark.git

PRODUCTION = Workflow("deploy-production.yml")
STAGING = Workflow("deploy-staging.yml")


def test_a_release_is_deployed_tested_and_then_tagged(world: World) -> None:
    world.push()
    runner = world.runner(version=VERSION, confirm="deploy")
    assert runner.run(PRODUCTION) is None, runner.output
    assert world.called() == [
        "ssh deploy@gateway.example.com",
        f"deploy.sh compose {world.head[:12]}",
        "ssh deploy@gateway.example.com",
        f"smoke-test.py --url {URL}",
        f"gh release create v{VERSION} --target {world.head} --title promptly {VERSION}"
        f" --notes-file {world.folder}/temporary/notes.md",
    ]
    assert world.git(world.server, "rev-parse", "HEAD") == world.head
    assert world.calls.with_suffix(".notes").read_text() == f"{NOTES}\n"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"confirm": "Deploy"}, "type the word deploy"),
        ({"confirm": ""}, "type the word deploy"),
        ({"branch": "dev"}, "from main, not from refs/heads/dev"),
        ({"version": "v1.2.0"}, "'v1.2.0' is not a version like 1.2.0"),
        ({"version": "1.2"}, "is not a version like"),
        ({"version": "1.2.0; touch /"}, "is not a version like"),
        ({"version": ""}, "is not a version like"),
        ({"version": "1.3.0"}, "promptly/__init__.py has version 1.2.0, not 1.3.0"),
    ],
)
def test_a_wrong_input_deploys_nothing(world: World, inputs: dict[str, str], message: str) -> None:
    runner = world.runner(**({"version": VERSION, "confirm": "deploy"} | inputs))
    failed = runner.run(PRODUCTION)
    assert failed is not None and failed.startswith("check/")
    assert message in runner.output
    assert world.called() == []


def test_a_version_is_released_once(world: World) -> None:
    world.git(world.checkout, "tag", f"v{VERSION}")
    runner = world.runner(version=VERSION, confirm="deploy")
    assert runner.run(PRODUCTION) == "check/Check the version"
    assert f"v{VERSION} is already released" in runner.output
    assert world.called() == []


@pytest.mark.parametrize(
    ("failing", "step"),
    [("deploy.sh", "deploy/Pull and deploy"), ("smoke-test.py", "deploy/Smoke test")],
)
def test_a_failed_deploy_is_not_released(world: World, failing: str, step: str) -> None:
    world.failing = failing
    assert world.runner(version=VERSION, confirm="deploy").run(PRODUCTION) == step
    assert world.called()[-1].startswith(failing)


def test_a_push_is_deployed_to_staging_and_tested(world: World) -> None:
    commit = world.push()
    runner = world.runner()
    assert runner.run(STAGING) is None, runner.output
    assert [call for call in world.called() if not call.startswith("ssh")] == [
        f"deploy.sh compose {commit[:12]}",
        f"smoke-test.py --url {URL}",
    ]
    assert world.git(world.server, "rev-parse", "HEAD") == commit


def test_a_push_whose_tests_fail_is_not_deployed(world: World) -> None:
    runner = world.runner()
    runner.failing = frozenset({"test"})
    assert runner.run(STAGING) == "test"
    assert world.called() == []


def test_a_failed_smoke_test_fails_the_staging_deploy(world: World) -> None:
    world.failing = "smoke-test.py"
    assert world.runner().run(STAGING) == "deploy/Smoke test"
