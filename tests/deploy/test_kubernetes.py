"""The manifests: built by kustomize, validated by Kubernetes' schemas, compared with the code."""

import json
import tomllib
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_network
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
from known_settings import DEFAULT_PORT, unknown_variables
from manifests import KUBERNETES, PROBES, Object, Pod, find_object, variables

from waitd import __version__
from waitd.core.connections.addresses import FORBIDDEN_NETWORKS, TRANSLATIONS, Address, Network
from waitd.settings import Settings, load

#: The first version with native sidecars, and the newest that has schemas.
VERSIONS = ("1.29", "1.37")
#: Schemas of the Prometheus operator's kinds.
MONITORS = {
    kind: json.loads(Path(__file__).with_name(name).read_text())
    for kind, name in (("ServiceMonitor", "service_monitor.json"), ("PodMonitor", "pod_monitor.json"))
}
#: Seconds between the drain and the kill, for the last writes and the pod's other containers.
MARGIN = 30
LABELS = {
    "app.kubernetes.io/name": "waitd",
    "app.kubernetes.io/instance": "waitd",
    "app.kubernetes.io/component": "poller",
    "app.kubernetes.io/version": __version__,
}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_passes_strict_validation(objects: list[Object], version: str) -> None:
    assert objects
    for item in objects:
        if item["kind"] in MONITORS:
            jsonschema.validate(item, MONITORS[item["kind"]])
        else:
            kubernetes_validate.validate(item, version, strict=True)


def test_an_unknown_field_fails_validation(deployments: dict[str, list[Object]]) -> None:
    broken = json.loads(json.dumps(find_object(deployments["base"], "StatefulSet", "waitd")))
    broken["spec"]["template"]["spec"]["terminationGraceSeconds"] = 60
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGraceSeconds"):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_only_components_need_the_prometheus_operator(deployments: dict[str, list[Object]]) -> None:
    needed = {
        name: {item["kind"] for item in objects if item["apiVersion"].startswith("monitoring.coreos.com")}
        for name, objects in deployments.items()
    }
    assert needed == {
        "base": set(),
        "standalone": set(),
        "sidecar": set(),
        "scraped_sidecar": {"PodMonitor"},
        "everything": {"ServiceMonitor"},
    }
    namespaces = {item["metadata"].get("namespace") for item in deployments["everything"]}
    assert namespaces == {"waitd", None}, "the Namespace has none"


def test_the_settings_file_of_the_pod_is_valid(deployments: dict[str, list[Object]]) -> None:
    (settings,) = [o for o in deployments["base"] if o["kind"] == "ConfigMap"]
    assert list(settings["data"]) == ["waitd.toml"]
    assert tomllib.loads(settings["data"]["waitd.toml"]).keys() <= Settings.model_fields.keys()
    load(KUBERNETES / "base" / "waitd.toml")


def test_every_variable_of_the_container_is_a_setting(pod: Pod) -> None:
    names = set(variables(pod.container))
    assert unknown_variables(names) == set()
    assert {"WAITD_BIND", "WAITD_STATE_DIR"} <= names


def test_every_port_is_the_one_that_waitd_listens_on(objects: list[Object], pod: Pod) -> None:
    assert pod.environment["WAITD_BIND"].rpartition(":")[2] == str(DEFAULT_PORT)
    ports = {port["name"]: port["containerPort"] for port in pod.container.get("ports", ())}
    listening = {DEFAULT_PORT}
    if metrics := pod.environment.get("WAITD_METRICS_BIND"):
        listening.add(int(metrics.rpartition(":")[2]))
        (monitor,) = find_object(objects, "PodMonitor", "waitd")["spec"]["podMetricsEndpoints"]
        assert ports[monitor["port"]] in listening - {DEFAULT_PORT}
        assert not metrics.startswith("127."), "Prometheus reaches it"
    assert set(ports.values()) <= listening
    for service in [o for o in objects if o["kind"] == "Service"]:
        assert [(p["port"], ports[p["targetPort"]]) for p in service["spec"]["ports"]] == [
            (DEFAULT_PORT,) * 2
        ]
    for policy in [o for o in objects if o["kind"] == "NetworkPolicy"]:
        assert {p["port"] for rule in policy["spec"]["ingress"] for p in rule["ports"]} <= ports.keys()


def test_the_state_is_on_a_claim_and_the_root_file_system_is_read_only(
    objects: list[Object], pod: Pod
) -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in pod.container["volumeMounts"]}
    state = mounts[pod.environment["WAITD_STATE_DIR"]]
    templates = [t["metadata"]["name"] for t in pod.workload["spec"].get("volumeClaimTemplates", ())]
    volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
    if state not in templates:
        find_object(objects, "PersistentVolumeClaim", volumes[state]["persistentVolumeClaim"]["claimName"])
    assert pod.container["securityContext"]["readOnlyRootFilesystem"] is True
    assert "emptyDir" in volumes[mounts["/tmp"]]
    assert set(mounts.values()) <= {*templates, *volumes}


def test_there_is_one_replica(pod: Pod) -> None:
    assert pod.workload["kind"] == "StatefulSet"
    assert pod.workload["spec"]["replicas"] == 1


def test_the_container_has_no_privileges(pod: Pod) -> None:
    context = pod.container["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["allowPrivilegeEscalation"] is False
    if pod.workload["metadata"]["name"] == "waitd":
        assert pod.spec["automountServiceAccountToken"] is False
        assert pod.spec["securityContext"]["fsGroup"] == context["runAsGroup"]


def test_the_grace_period_is_longer_than_the_drain(deployments: dict[str, list[Object]], pod: Pod) -> None:
    (settings,) = [o for o in deployments["base"] if o["kind"] == "ConfigMap"]
    drains = [
        Settings.model_fields["drain_timeout"].default,
        tomllib.loads(settings["data"]["waitd.toml"]).get("drain_timeout", 0),
    ]
    assert pod.spec["terminationGracePeriodSeconds"] >= max(drains) + MARGIN


def test_requests_are_set_and_memory_is_limited(pod: Pod) -> None:
    resources = pod.container["resources"]
    assert {"cpu", "memory"} <= resources["requests"].keys()
    assert "memory" in resources["limits"]
    assert "cpu" not in resources["limits"], "a throttled event loop delays every wait"


def test_every_object_has_the_recommended_labels(objects: list[Object]) -> None:
    for item in objects:
        labels = item["metadata"].get("labels", {})
        if labels.get("tier") != "airflow":
            assert labels.items() >= LABELS.items(), item["metadata"]["name"]


def test_no_immutable_field_contains_the_version(deployments: dict[str, list[Object]]) -> None:
    for item in [
        find_object(deployments["everything"], "StatefulSet", "waitd"),
        find_object(deployments["base"], "StatefulSet", "waitd"),
    ]:
        fixed = [item["spec"]["selector"], *item["spec"]["volumeClaimTemplates"]]
        assert __version__ not in json.dumps(fixed), "the next version could not be applied"


def test_every_selector_selects_the_pod_only(objects: list[Object], pod: Pod) -> None:
    labels = pod.workload["spec"]["template"]["metadata"]["labels"]
    selected = {name: value for name, value in LABELS.items() if name.endswith(("/name", "/instance"))}
    if labels.get("tier") == "airflow":
        selected = {"tier": "airflow", "component": "scheduler"}
    for item in objects:
        spec = item.get("spec", {})
        for selector in [spec.get("selector"), spec.get("podSelector")]:
            if selector is not None and item["metadata"].get("labels", {}).get("tier") != "airflow":
                assert selector.get("matchLabels", selector) == selected, item["kind"]
                assert labels.items() >= selected.items()


def test_the_network_policy_admits_labelled_clients_and_blocks_metadata_services(
    deployments: dict[str, list[Object]],
) -> None:
    policy = find_object(deployments["standalone"], "NetworkPolicy", "waitd")["spec"]
    clients, prometheus = [source for rule in policy["ingress"] for source in rule["from"]]
    assert clients == {
        "namespaceSelector": {"matchLabels": {"waitd-clients": "true"}},
        "podSelector": {"matchLabels": {"waitd-client": "true"}},
    }
    assert prometheus.keys() == {"namespaceSelector", "podSelector"}
    dns, targets = policy["egress"]
    (to,) = dns["to"]
    assert to["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}
    assert {port["port"] for port in dns["ports"]} == {53}
    assert [(port["protocol"], port["port"], port["endPort"]) for port in targets["ports"]] == [
        ("TCP", 1, 52),
        ("TCP", 54, 65535),
    ]
    refused = [ip_network(entry) for to in targets["to"] for entry in to["ipBlock"]["except"]]
    for network in FORBIDDEN_NETWORKS:
        address = network.network_address
        assert _contains(refused, address)
        assert _contains(refused, network.broadcast_address)
        if address.version == 4:
            number = int(address)
            assert _contains(refused, IPv6Address((0x64FF9B << 96) + number)), "NAT64"
            assert _contains(refused, IPv6Address((0x2002 << 112) + (number << 80))), "6to4"
    translated = [translation.network for translation in TRANSLATIONS]
    for network in refused:  # what waitd itself refuses, and nothing else
        inside = any(network.overlaps(known) for known in translated if known.version == network.version)
        assert inside or any(
            network == known for known in FORBIDDEN_NETWORKS if known.version == network.version
        ), network
    (resolver,) = [to["namespaceSelector"] for to in dns["to"]]
    assert resolver == {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}


def _contains(networks: Sequence[Network], address: Address) -> bool:
    return any(address in network for network in networks)


def test_a_daemon_off_loopback_has_a_mounted_keys_file(pod: Pod) -> None:
    if not pod.environment["WAITD_BIND"].startswith("127.0.0.1:"):
        keys = pod.environment["WAITD_API_KEYS_FILE"]
        (mount,) = [m for m in pod.container["volumeMounts"] if keys.startswith(m["mountPath"] + "/")]
        (volume,) = [v for v in pod.spec["volumes"] if v["name"] == mount["name"]]
        assert "secret" in volume
        assert mount["readOnly"] is True


def test_with_a_certificate_probes_and_scrapes_use_https(deployments: dict[str, list[Object]]) -> None:
    container = find_object(deployments["everything"], "StatefulSet", "waitd")["spec"]["template"]["spec"][
        "containers"
    ][0]
    assert "WAITD_TLS_CERTIFICATE" in {entry["name"] for entry in container["env"]}
    assert {container[probe]["httpGet"]["scheme"] for probe in PROBES} == {"HTTPS"}
    (endpoint,) = find_object(deployments["everything"], "ServiceMonitor", "waitd")["spec"]["endpoints"]
    assert endpoint["scheme"] == "https"


def test_the_image_has_this_version(pod: Pod) -> None:
    assert pod.container["image"] == f"waitd:{__version__}"
