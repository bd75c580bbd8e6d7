"""The sidecar in Airflow's pod: kustomize's patch and the chart's values add the same container."""

from typing import Any

import kubernetes_validate
import pytest
from manifests import Object, Pod, find_object, pod_of

#: Fields in which the sidecar differs from the base. It has no settings file either.
DIFFERENT = {"args", "restartPolicy", "ports"}
#: The chart's default for the scheduler, which is too short.
CHART_GRACE = 10


@pytest.fixture
def sidecar(deployments: dict[str, list[Object]]) -> Pod:
    """The scheduler's pod with waitd."""
    return pod_of(find_object(deployments["sidecar"], "StatefulSet", "airflow-scheduler"))


def common(container: Object) -> Object:
    """What the sidecar's container and the base's have in common."""
    kept = {name: value for name, value in container.items() if name not in DIFFERENT}
    mounts = [mount for mount in container["volumeMounts"] if mount["name"] != "waitd-settings"]
    return kept | {"volumeMounts": mounts}


def test_it_is_the_container_of_the_base(deployments: dict[str, list[Object]], sidecar: Pod) -> None:
    base = pod_of(find_object(deployments["base"], "StatefulSet", "waitd"))
    assert common(sidecar.container) == common(base.container)


def test_it_is_a_native_sidecar_on_loopback(sidecar: Pod) -> None:
    assert sidecar.container in sidecar.spec["initContainers"]
    assert sidecar.container["restartPolicy"] == "Always"
    assert sidecar.environment["WAITD_BIND"].startswith("127.0.0.1:")
    assert sidecar.spec["terminationGracePeriodSeconds"] > CHART_GRACE


def test_airflows_containers_and_volumes_are_kept(deployments: dict[str, list[Object]], sidecar: Pod) -> None:
    spec = sidecar.spec
    assert [c["name"] for c in spec["containers"]] == ["scheduler", "scheduler-log-groomer"]
    assert {c["name"] for c in spec["initContainers"]} == {"waitd", "wait-for-airflow-migrations"}
    added = {"waitd-state", "waitd-tmp", "waitd-connections"}
    assert {v["name"] for v in spec["volumes"]} == {"config", *added}
    assert [t["metadata"]["name"] for t in sidecar.workload["spec"]["volumeClaimTemplates"]] == ["logs"]
    other = find_object(deployments["sidecar"], "Deployment", "airflow-dag-processor")
    assert "initContainers" not in other["spec"]["template"]["spec"]


def test_the_charts_values_equal_the_patch(sidecar: Pod, values: Any) -> None:
    (container,) = values["pod"]["extraInitContainers"]
    assert container == sidecar.container
    volumes = [v for v in sidecar.spec["volumes"] if v["name"].startswith("waitd-")]
    templates = values["pod"].get("volumeClaimTemplates", [])
    claimed = [{"name": t["metadata"]["name"]} for t in templates]
    named = {v["name"] for v in [*values["pod"]["extraVolumes"], *claimed]}
    assert named == {v["name"] for v in volumes}
    assert all(volume in volumes for volume in values["pod"]["extraVolumes"])
    assert values["pod"]["terminationGracePeriodSeconds"] >= sidecar.spec["terminationGracePeriodSeconds"]


def test_the_charts_workload_is_a_stateful_set_that_is_not_autoscaled(values: Any) -> None:
    assert values["workers"]["persistence"]["enabled"] is True
    if values["executor"] == "LocalExecutor":
        assert values["scheduler"]["replicas"] == 1
    else:
        assert values["executor"] == "CeleryExecutor"
        assert values["workers"]["keda"]["enabled"] is values["workers"]["hpa"]["enabled"] is False


def test_the_charts_volumes_and_container_are_valid_in_a_pod(values: Any) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "airflow"},
        "spec": {
            "initContainers": values["pod"]["extraInitContainers"],
            "containers": [{"name": "airflow", "image": "apache/airflow:3.3.2"}],
            "volumes": values["pod"]["extraVolumes"],
        },
    }
    kubernetes_validate.validate(pod, "1.37", strict=True)
    for template in values["pod"].get("volumeClaimTemplates", ()):
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **template}
        kubernetes_validate.validate(claim, "1.37", strict=True)
