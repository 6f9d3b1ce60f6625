"""The Kubernetes manifests as Kustomize renders them, as far as ours use it.

`kubectl kustomize` is not needed: a test compares it with this where it is installed. It appends a
hash of their content to the names of generated ConfigMaps, which is left out here.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.servers import PROJECT

KUBERNETES = PROJECT / "deploy" / "kubernetes"
BASE, PRODUCTION = KUBERNETES / "base", KUBERNETES / "production"
# Fields of a kustomization that `render` knows.
KNOWN = {
    "apiVersion", "kind", "resources", "namespace", "images", "configMapGenerator",
    "generatorOptions", "patches",
}  # fmt: skip
Manifest = dict[str, Any]


def render(folder: Path) -> list[Manifest]:
    """Return the manifests of a kustomization."""
    given = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(given) <= KNOWN, "a field that this renderer does not know"
    found: list[Manifest] = []
    for name in given["resources"]:
        path = folder / name
        found += render(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    for generator in given.get("configMapGenerator", ()):
        _generate(found, folder, generator, given.get("generatorOptions", {}))
    for patch in given.get("patches", ()):
        change = yaml.safe_load((folder / patch["path"]).read_text())
        _merge(find(found, change["kind"], change["metadata"]["name"]), change)
    for image in given.get("images", ()):
        for container in containers(found):
            if container["image"] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"
    for manifest in found:
        if "namespace" in given and manifest["kind"] != "Namespace":
            manifest["metadata"]["namespace"] = given["namespace"]
    return found


def find(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """Return the only manifest of this kind and name."""
    [found] = [
        manifest
        for manifest in manifests
        if (manifest["kind"], manifest["metadata"]["name"]) == (kind, name)
    ]
    return found


@dataclass(frozen=True)
class Workload:
    """A Deployment or Job."""

    name: str
    manifest: Manifest

    @property
    def labels(self) -> dict[str, str]:
        """Labels of its pods."""
        found: dict[str, str] = self.manifest["spec"]["template"]["metadata"]["labels"]
        return found

    @property
    def pod(self) -> Manifest:
        found: Manifest = self.manifest["spec"]["template"]["spec"]
        return found

    @property
    def container(self) -> Manifest:
        """Its only container."""
        [found] = self.pod["containers"]
        return dict(found)

    def port(self, wanted: str | int) -> int:
        """Return the number of one of its ports."""
        numbers = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        assert wanted in {*numbers, *numbers.values()}, f"{self.name} has no port {wanted}"
        return int(numbers.get(wanted, wanted))


def workloads(manifests: list[Manifest]) -> dict[str, Workload]:
    """Return the workloads by name."""
    return {
        manifest["metadata"]["name"]: Workload(manifest["metadata"]["name"], manifest)
        for manifest in manifests
        if manifest["kind"] in {"Deployment", "Job"}
    }


def containers(manifests: list[Manifest]) -> Iterator[Manifest]:
    """Yield the containers of all workloads, to be changed in place."""
    for workload in workloads(manifests).values():
        yield from workload.pod["containers"]
        yield from workload.pod.get("initContainers", ())


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    """Return whether a label selector selects pods with these labels."""
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    expressions = selector.get("matchExpressions", ())
    assert {expression["operator"] for expression in expressions} <= {"In"}
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


def variables_of(path: Path) -> dict[str, str]:
    """Return the variables of a file as Kubernetes reads it: without quoting."""
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def _generate(found: list[Manifest], folder: Path, generator: Manifest, options: Manifest) -> None:
    data: dict[str, str] = {}
    for name in generator.get("envs", ()):
        data |= variables_of(folder / name)
    for name in generator.get("files", ()):
        data[name] = (folder / name).read_text()
    if generator.get("behavior") == "merge":
        find(found, "ConfigMap", generator["name"])["data"] |= data
        return
    metadata = {"name": generator["name"], **deepcopy(options)}
    found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def _merge(target: Manifest, change: Manifest) -> None:
    """Merge as Kustomize does: lists of named objects by name, other lists as a whole."""
    for key, value in change.items():
        present = target.get(key)
        if isinstance(value, dict) and isinstance(present, dict):
            _merge(present, value)
        elif isinstance(value, list) and isinstance(present, list) and "name" in value[0]:
            for item in value:
                same = [other for other in present if other["name"] == item["name"]]
                if same:
                    _merge(same[0], item)
                else:
                    present.append(item)
        else:
            target[key] = value
