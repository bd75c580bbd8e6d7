"""waitd in Airflow's pod: by kustomize's patch and by the chart's values, it is the same container
as everywhere.
"""

from typing import Any

import kubernetes_validate
from manifests import Object, one, pod_of

#: What the sidecar has of its own: how it is started, and the settings file, which is a ConfigMap
#: of the base.
OWN = {"args", "restartPolicy", "ports"}
#: The chart's default for the scheduler, which is too short.
CHART_GRACE = 10


def common(container: Object) -> Object:
    kept = {name: value for name, value in container.items() if name not in OWN}
    mounts = [mount for mount in container["volumeMounts"] if mount["name"] != "waitd-settings"]
    return kept | {"volumeMounts": mounts}


def test_it_is_the_container_of_the_base(ways: dict[str, list[Object]]) -> None:
    base = pod_of(one(ways["base"], "StatefulSet", "waitd")).container
    sidecar = pod_of(one(ways["sidecar"], "StatefulSet", "airflow-scheduler")).container
    assert common(sidecar) == common(base)


def test_it_is_a_native_sidecar_on_loopback(ways: dict[str, list[Object]]) -> None:
    pod = pod_of(one(ways["sidecar"], "StatefulSet", "airflow-scheduler"))
    assert pod.container in pod.spec["initContainers"]
    assert pod.container["restartPolicy"] == "Always"
    assert pod.environment["WAITD_BIND"].startswith("127.0.0.1:")
    assert pod.spec["terminationGracePeriodSeconds"] > CHART_GRACE


def test_airflow_keeps_what_it_had(ways: dict[str, list[Object]]) -> None:
    pod = pod_of(one(ways["sidecar"], "StatefulSet", "airflow-scheduler"))
    assert [c["name"] for c in pod.spec["containers"]] == ["scheduler", "scheduler-log-groomer"]
    assert {c["name"] for c in pod.spec["initContainers"]} == {"waitd", "wait-for-airflow-migrations"}
    added = {"waitd-state", "waitd-tmp", "waitd-connections"}
    assert {v["name"] for v in pod.spec["volumes"]} == {"config", *added}
    assert [t["metadata"]["name"] for t in pod.workload["spec"]["volumeClaimTemplates"]] == ["logs"]
    other = one(ways["sidecar"], "Deployment", "airflow-dag-processor")
    assert "initContainers" not in other["spec"]["template"]["spec"]


def test_the_charts_values_say_the_same_as_the_patch(ways: dict[str, list[Object]], values: Any) -> None:
    (container,) = values["pod"]["extraInitContainers"]
    sidecar = pod_of(one(ways["sidecar"], "StatefulSet", "airflow-scheduler"))
    assert container == sidecar.container
    volumes = [v for v in sidecar.spec["volumes"] if v["name"].startswith("waitd-")]
    templates = values["pod"].get("volumeClaimTemplates", [])
    claimed = [{"name": t["metadata"]["name"]} for t in templates]
    named = {v["name"] for v in [*values["pod"]["extraVolumes"], *claimed]}
    assert named == {v["name"] for v in volumes}
    assert all(volume in volumes for volume in values["pod"]["extraVolumes"])
    assert values["pod"]["terminationGracePeriodSeconds"] >= sidecar.spec["terminationGracePeriodSeconds"]


def test_the_values_make_a_stateful_set_that_no_one_scales_in(values: Any) -> None:
    assert values["workers"]["persistence"]["enabled"] is True
    if values["executor"] == "LocalExecutor":
        assert values["scheduler"]["replicas"] == 1
    else:
        assert values["executor"] == "CeleryExecutor"
        assert values["workers"]["keda"]["enabled"] is values["workers"]["hpa"]["enabled"] is False


def test_the_values_volumes_and_container_are_valid_in_a_pod(values: Any) -> None:
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
