"""The manifests: built by kustomize, accepted strictly by the schemas of Kubernetes, and true to
the code.
"""

import json
import tomllib
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
from known_settings import DEFAULT_PORT, unknown
from manifests import KUBERNETES, Object, Pod, one, variables

from waitd import __version__
from waitd.settings import Settings, load

#: Native sidecars begin with the first; the last is the newest that the schemas know.
VERSIONS = ("1.29", "1.37")
SERVICE_MONITOR = json.loads(Path(__file__).with_name("service_monitor.json").read_text())
#: Half a minute between the drain and the kill: for the last writes, and for what the pod's other
#: containers take.
MARGIN = 30
LABELS = {
    "app.kubernetes.io/name": "waitd",
    "app.kubernetes.io/instance": "waitd",
    "app.kubernetes.io/component": "poller",
    "app.kubernetes.io/version": __version__,
}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_accepted_strictly(way: list[Object], version: str) -> None:
    assert way
    for thing in way:
        if thing["kind"] == "ServiceMonitor":
            jsonschema.validate(thing, SERVICE_MONITOR)
        else:
            kubernetes_validate.validate(thing, version, strict=True)


def test_a_field_that_does_not_exist_is_not_accepted(ways: dict[str, list[Object]]) -> None:
    broken = json.loads(json.dumps(one(ways["base"], "StatefulSet", "waitd")))
    broken["spec"]["template"]["spec"]["terminationGraceSeconds"] = 60
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGraceSeconds"):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_the_settings_file_of_the_pod_can_be_read(ways: dict[str, list[Object]]) -> None:
    (settings,) = [o for o in ways["base"] if o["kind"] == "ConfigMap"]
    assert list(settings["data"]) == ["waitd.toml"]
    assert tomllib.loads(settings["data"]["waitd.toml"]).keys() <= Settings.model_fields.keys()
    load(KUBERNETES / "base" / "waitd.toml")


def test_every_setting_that_comes_as_a_variable_exists(pod: Pod) -> None:
    named = set(variables(pod.container))
    assert unknown(named) == set()
    assert {"WAITD_BIND", "WAITD_STATE_DIR"} <= named


def test_every_port_is_the_one_that_waitd_listens_on(way: list[Object], pod: Pod) -> None:
    assert pod.environment["WAITD_BIND"].rpartition(":")[2] == str(DEFAULT_PORT)
    ports = {port["name"]: port["containerPort"] for port in pod.container.get("ports", ())}
    assert set(ports.values()) <= {DEFAULT_PORT}
    for service in [o for o in way if o["kind"] == "Service"]:
        assert [(p["port"], ports[p["targetPort"]]) for p in service["spec"]["ports"]] == [
            (DEFAULT_PORT,) * 2
        ]
    for policy in [o for o in way if o["kind"] == "NetworkPolicy"]:
        assert {p["port"] for rule in policy["spec"]["ingress"] for p in rule["ports"]} <= ports.keys()


def test_the_state_lies_on_a_claim_and_the_root_file_system_is_read_only(way: list[Object], pod: Pod) -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in pod.container["volumeMounts"]}
    state = mounts[pod.environment["WAITD_STATE_DIR"]]
    templates = [t["metadata"]["name"] for t in pod.workload["spec"].get("volumeClaimTemplates", ())]
    volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
    if state not in templates:
        one(way, "PersistentVolumeClaim", volumes[state]["persistentVolumeClaim"]["claimName"])
    assert pod.container["securityContext"]["readOnlyRootFilesystem"] is True
    assert "emptyDir" in volumes[mounts["/tmp"]]
    assert set(mounts.values()) <= {*templates, *volumes}


def test_there_is_one_pod_on_one_file(pod: Pod) -> None:
    assert pod.workload["kind"] == "StatefulSet"
    assert pod.workload["spec"]["replicas"] == 1


def test_the_container_may_nothing_that_it_does_not_need(pod: Pod) -> None:
    context = pod.container["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["allowPrivilegeEscalation"] is False
    if pod.workload["metadata"]["name"] == "waitd":
        assert pod.spec["automountServiceAccountToken"] is False
        assert pod.spec["securityContext"]["fsGroup"] == context["runAsGroup"]


def test_the_grace_period_is_longer_than_the_drain(ways: dict[str, list[Object]], pod: Pod) -> None:
    (settings,) = [o for o in ways["base"] if o["kind"] == "ConfigMap"]
    drains = [
        Settings.model_fields["drain_timeout"].default,
        tomllib.loads(settings["data"]["waitd.toml"]).get("drain_timeout", 0),
    ]
    assert pod.spec["terminationGracePeriodSeconds"] >= max(drains) + MARGIN


def test_requests_are_given_and_memory_is_bounded(pod: Pod) -> None:
    resources = pod.container["resources"]
    assert {"cpu", "memory"} <= resources["requests"].keys()
    assert "memory" in resources["limits"]
    assert "cpu" not in resources["limits"], "a throttled loop is late for every wait"


def test_every_object_of_ours_has_kubernetes_own_labels(way: list[Object]) -> None:
    for thing in way:
        labels = thing["metadata"].get("labels", {})
        if labels.get("tier") != "airflow":
            assert labels.items() >= LABELS.items(), thing["metadata"]["name"]


def test_nothing_that_cannot_be_changed_names_a_version(ways: dict[str, list[Object]]) -> None:
    for thing in [one(ways["everything"], "StatefulSet", "waitd"), one(ways["base"], "StatefulSet", "waitd")]:
        fixed = [thing["spec"]["selector"], *thing["spec"]["volumeClaimTemplates"]]
        assert __version__ not in json.dumps(fixed), "the next version could not be applied"


def test_every_selector_finds_the_pod_and_only_it(way: list[Object], pod: Pod) -> None:
    labels = pod.workload["spec"]["template"]["metadata"]["labels"]
    ours = {name: value for name, value in LABELS.items() if name.endswith(("/name", "/instance"))}
    for thing in way:
        spec = thing.get("spec", {})
        for selector in [spec.get("selector"), spec.get("podSelector")]:
            if selector is not None and thing["metadata"].get("labels", {}).get("tier") != "airflow":
                assert selector.get("matchLabels", selector) == ours, thing["kind"]
                assert labels.items() >= ours.items()


def test_clients_are_let_in_by_their_label_and_metadata_services_are_not_let_out(
    ways: dict[str, list[Object]],
) -> None:
    policy = one(ways["standalone"], "NetworkPolicy", "waitd")["spec"]
    (clients,) = [s for rule in policy["ingress"] for s in rule["from"] if "podSelector" in s]
    assert clients["podSelector"] == {"matchLabels": {"waitd-client": "true"}}
    refused = {a for rule in policy["egress"] for to in rule.get("to", ()) for a in to["ipBlock"]["except"]}
    assert {"169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "100.100.100.200/32"} <= refused


def test_off_loopback_there_is_authentication(pod: Pod) -> None:
    if not pod.environment["WAITD_BIND"].startswith("127.0.0.1:"):
        keys = pod.environment["WAITD_API_KEYS_FILE"]
        (mount,) = [m for m in pod.container["volumeMounts"] if keys.startswith(m["mountPath"] + "/")]
        (volume,) = [v for v in pod.spec["volumes"] if v["name"] == mount["name"]]
        assert "secret" in volume
        assert mount["readOnly"] is True


def test_with_a_certificate_everyone_who_asks_asks_by_https(ways: dict[str, list[Object]]) -> None:
    container = one(ways["everything"], "StatefulSet", "waitd")["spec"]["template"]["spec"]["containers"][0]
    assert "WAITD_TLS_CERTIFICATE" in {entry["name"] for entry in container["env"]}
    probes = ("startupProbe", "livenessProbe", "readinessProbe")
    assert {container[probe]["httpGet"]["scheme"] for probe in probes} == {"HTTPS"}
    (endpoint,) = one(ways["everything"], "ServiceMonitor", "waitd")["spec"]["endpoints"]
    assert endpoint["scheme"] == "https"


def test_the_image_is_that_of_this_version(pod: Pod) -> None:
    assert pod.container["image"] == f"waitd:{__version__}"
