"""The objects of each deployment in Kubernetes, as kustomize builds them."""

from pathlib import Path

import pytest
import yaml
from kustomize import build, kustomize_program
from manifests import (
    CHART,
    DEPLOY,
    KUBERNETES,
    SIDECAR,
    STANDALONE,
    Object,
    Pod,
    build_customized,
    find_object,
    pod_of,
)

DEPLOYMENTS = ("base", "standalone", "sidecar", "scraped_sidecar", "everything")


@pytest.fixture(scope="session")
def deployments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Object]]:
    """The objects of each deployment. `everything` is standalone with all of its components."""
    kustomize_program()
    pod_monitor = KUBERNETES / "components" / "podmonitor"
    components = [each for each in sorted((KUBERNETES / "components").iterdir()) if each != pod_monitor]
    folder = tmp_path_factory.mktemp
    return {
        "base": build(KUBERNETES / "base"),
        "standalone": build(STANDALONE),
        "sidecar": build_customized(folder("sidecar"), files=[CHART], components=[SIDECAR]),
        "scraped_sidecar": build_customized(
            folder("scraped_sidecar"), files=[CHART], components=[SIDECAR, pod_monitor]
        ),
        "everything": build_customized(folder("everything"), bases=[STANDALONE], components=components),
    }


@pytest.fixture(params=DEPLOYMENTS)
def objects(request: pytest.FixtureRequest, deployments: dict[str, list[Object]]) -> list[Object]:
    """The objects of one deployment."""
    return deployments[request.param]


@pytest.fixture
def pod(objects: list[Object]) -> Pod:
    """The pod in which waitd runs."""
    scheduler = [o for o in objects if o["metadata"]["name"] == "airflow-scheduler"]
    return pod_of(scheduler[0] if scheduler else find_object(objects, "StatefulSet", "waitd"))


@pytest.fixture(params=["scheduler", "worker"])
def values(request: pytest.FixtureRequest) -> Object:
    """The values for Airflow's chart; those of waitd's pod are under `pod`."""
    read: Object = yaml.safe_load(Path(DEPLOY / "helm" / f"airflow-{request.param}.yaml").read_text())
    return {**read, "pod": read["scheduler" if request.param == "scheduler" else "workers"]}
