"""The files in deploy/, the objects that kustomize builds from them, and their parts."""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from kustomize import build

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
STANDALONE = KUBERNETES / "overlays" / "standalone"
SIDECAR = KUBERNETES / "overlays" / "sidecar"
#: What the official chart renders for the scheduler, as far as the sidecar's patch needs it.
CHART = Path(__file__).with_name("airflow_scheduler.yaml")
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")

Object = dict[str, Any]


class Pod(NamedTuple):
    """A workload, the spec of its pod, and waitd's container in it."""

    workload: Object
    spec: Object
    container: Object

    @property
    def environment(self) -> dict[str, str]:
        """The container's environment variables."""
        return {entry["name"]: entry["value"] for entry in self.container["env"]}


def build_customized(
    folder: Path, *, bases: Sequence[Path] = (), files: Sequence[Path] = (), components: Sequence[Path] = ()
) -> list[Object]:
    """The objects of a user's own kustomization in `folder`.

    Its resources are `files` and the folders `bases` of deploy/; `components` are folders, too.
    """
    for file in files:
        shutil.copy(file, folder)
    kustomization = {
        "resources": [*(os.path.relpath(base, folder) for base in bases), *(file.name for file in files)],
        "components": [os.path.relpath(component, folder) for component in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return build(folder)


def find_object(objects: Sequence[Object], kind: str, name: str) -> Object:
    """The object of this kind and name."""
    (found,) = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    return found


def pod_of(workload: Object) -> Pod:
    """The pod of a workload with waitd's container."""
    spec = workload["spec"]["template"]["spec"]
    (container,) = [c for c in [*spec.get("initContainers", ()), *spec["containers"]] if c["name"] == "waitd"]
    return Pod(workload, spec, container)


def probe_actions(pod: Pod) -> Iterator[tuple[str, str]]:
    """The action of each probe, `httpGet` or a program, and the path that it requests."""
    for probe in PROBES:
        action = pod.container[probe]
        if "httpGet" in action:
            assert "exec" not in action
            yield "httpGet", action["httpGet"]["path"]
        else:
            program, path = action["exec"]["command"]
            yield program, path


def variables(value: Any) -> Iterator[str]:
    """Every WAITD_ variable in a document, as {name, value}, as a key, or as NAME=value."""
    if isinstance(value, dict):
        names = [key for key in value if isinstance(key, str)]
        if isinstance(value.get("name"), str):
            names.append(value["name"])
        yield from (name for name in names if name.startswith("WAITD_"))
        for inner in value.values():
            yield from variables(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from variables(inner)
    elif isinstance(value, str) and value.startswith("WAITD_"):
        yield value.partition("=")[0]
