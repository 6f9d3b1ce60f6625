"""The workflows of .github/workflows, read, and run as far as they are shell."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / ".github" / "workflows"
EXPRESSION = re.compile(r"\$\{\{ (.*?) \}\}")

Json = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """A step with a shell script; `env` has the variables of workflow, job and step."""

    job: str
    name: str
    script: str
    env: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.job}/{self.name}"


class Workflow:
    """One file; attributes are its parts as YAML gives them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = (FOLDER / name).read_text()

    @cached_property
    def content(self) -> Json:
        # YAML 1.1 reads the key `on` as true.
        return {"on" if key is True else key: part for key, part in self._parsed.items()}

    @property
    def _parsed(self) -> dict[Any, Any]:
        parsed: dict[Any, Any] = yaml.safe_load(self.text)
        return parsed

    @property
    def jobs(self) -> dict[str, Json]:
        jobs: dict[str, Json] = self.content["jobs"]
        return jobs

    def actions(self) -> Iterator[Json]:
        """Yield the steps that use an action."""
        for job in self.jobs.values():
            yield from (step for step in job.get("steps", ()) if "uses" in step)

    def scripts(self, job: str) -> list[Step]:
        """Return the steps of a job that run a script."""
        outer = self.content.get("env", {}) | self.jobs[job].get("env", {})
        return [
            Step(job, step["name"], step["run"], outer | step.get("env", {}))
            for step in self.jobs[job].get("steps", ())
            if "run" in step
        ]

    def all_scripts(self) -> list[Step]:
        return [step for job in self.jobs for step in self.scripts(job)]


def workflows() -> list[Workflow]:
    return [Workflow(path.name) for path in sorted(FOLDER.iterdir())]


@dataclass
class Runner:
    """Runs workflows in a checkout, like GitHub's runner; actions do nothing.

    `values` has the values of expressions by their text (`inputs.version`); a workflow that uses
    another is a KeyError. Jobs named in `failing` fail before their first step.
    """

    checkout: Path
    values: Mapping[str, str]
    variables: Mapping[str, str]
    failing: frozenset[str] = frozenset()
    ran: list[str] = field(default_factory=list)
    output: str = ""

    def run(self, workflow: Workflow) -> str | None:
        """Run the jobs in the order of the file, without those whose needs failed.

        Return the job or step that failed first, or None.
        """
        failed: dict[str, str] = {}
        for name, job in workflow.jobs.items():
            needs = job.get("needs", [])
            if failed.keys() & ({needs} if isinstance(needs, str) else set(needs)):
                failed[name] = f"{name}, for its needs"
            elif name in self.failing:
                failed[name] = name
            else:
                for step in workflow.scripts(name):
                    if not self._succeeds(step):
                        failed[name] = str(step)
                        break
        return next(iter(failed.values()), None)

    def _succeeds(self, step: Step) -> bool:
        given = {
            name: EXPRESSION.sub(lambda found: self.values[found[1]], text)
            for name, text in step.env.items()
        }
        ended = subprocess.run(
            ["bash", "-e", "-c", step.script],
            cwd=self.checkout,
            env={**self.variables, **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.ran.append(str(step))
        self.output += ended.stdout
        return ended.returncode == 0
