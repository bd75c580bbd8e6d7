"""The objects of each way to run waitd in Kubernetes, as kustomize builds them."""

from pathlib import Path

import pytest
import yaml
from kustomize import build, installed
from manifests import CHART, DEPLOY, KUBERNETES, SIDECAR, STANDALONE, Object, Pod, customised, one, pod_of

WAYS = ("base", "standalone", "sidecar", "everything")


@pytest.fixture(scope="session")
def ways(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Object]]:
    """Every object, by way. `everything` is standalone with all components."""
    installed()
    components = sorted((KUBERNETES / "components").iterdir())
    folder = tmp_path_factory.mktemp
    return {
        "base": build(KUBERNETES / "base"),
        "standalone": build(STANDALONE),
        "sidecar": customised(folder("sidecar"), files=[CHART], components=[SIDECAR]),
        "everything": customised(folder("everything"), bases=[STANDALONE], components=components),
    }


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, ways: dict[str, list[Object]]) -> list[Object]:
    """The objects of one way."""
    return ways[request.param]


@pytest.fixture
def pod(way: list[Object]) -> Pod:
    """The pod that waitd is in."""
    scheduler = [o for o in way if o["metadata"]["name"] == "airflow-scheduler"]
    return pod_of(scheduler[0] if scheduler else one(way, "StatefulSet", "waitd"))


@pytest.fixture(params=["scheduler", "worker"])
def values(request: pytest.FixtureRequest) -> Object:
    """The values for Airflow's chart; what concerns the pod is under `pod`."""
    read: Object = yaml.safe_load(Path(DEPLOY / "helm" / f"airflow-{request.param}.yaml").read_text())
    return {**read, "pod": read["scheduler" if request.param == "scheduler" else "workers"]}
