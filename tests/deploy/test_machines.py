"""The systemd unit and the compose file, checked by systemd and by the Compose specification."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from known_settings import DEFAULT_PORT, unknown_variables
from manifests import DEPLOY, Object, find_object, pod_of, variables

from waitd import __version__
from waitd.settings import Settings

UNIT = DEPLOY / "systemd" / "waitd.service"
COMPOSE = DEPLOY / "compose.yaml"
SYSTEMD_ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(SYSTEMD_ANALYZE is None, reason="there is no systemd-analyze here")
#: The most exposure of 10 that systemd may count; below 2 is "OK".
EXPOSURE = 1.5
DRAIN = float(Settings.model_fields["drain_timeout"].default)
MARGIN = 30


def directives() -> list[tuple[str, str]]:
    """Every directive of the unit, in order."""
    return re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/waitd/bin/waitd", "/bin/true"))
    return copy


@needs_systemd
def test_systemd_accepts_the_unit(unit: Path) -> None:
    done = subprocess.run(
        [str(SYSTEMD_ANALYZE), "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
def test_systemd_rates_the_unit_as_hardened(unit: Path) -> None:
    done = subprocess.run(
        [
            str(SYSTEMD_ANALYZE),
            "security",
            "--offline=true",
            "--no-pager",
            f"--threshold={EXPOSURE * 10:.0f}",
            str(unit),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_leaves_time_to_drain_and_keeps_its_directory() -> None:
    settings = dict(directives())
    assert float(settings["TimeoutStopSec"]) >= DRAIN + MARGIN
    assert settings["KillMode"] == "mixed"
    assert settings["Restart"] == "always"
    environment = dict(pair.split("=") for pair in settings["Environment"].split())
    assert unknown_variables(environment) == set()
    assert environment["WAITD_STATE_DIR"] == "/var/lib/" + settings["StateDirectory"]


def test_the_compose_file_follows_the_specification() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_invalid_compose_file_fails_the_check(tmp_path: Path) -> None:
    invalid = tmp_path / "compose.json"
    invalid.write_text(json.dumps({"services": {"waitd": {"imag": "waitd"}}}))
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(invalid)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1


def test_the_compose_file_matches_the_code() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    service = compose["services"]["waitd"]
    assert unknown_variables(variables(service)) == set()
    assert service["environment"]["WAITD_BIND"].endswith(f":{DEFAULT_PORT}")
    assert service["ports"] == [f"127.0.0.1:{DEFAULT_PORT}:{DEFAULT_PORT}"]
    assert service["image"] == f"waitd:{__version__}"
    assert int(service["stop_grace_period"].removesuffix("s")) >= DRAIN + MARGIN
    assert (COMPOSE.parent / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    redis = compose["services"]["redis"]
    assert "ports" not in redis
    assert redis["networks"] == ["backend"]
    assert compose["networks"]["backend"] == {"internal": True}
    password = re.compile(r"\$\{REDIS_PASSWORD:\?.+\}")
    assert password.fullmatch(redis["command"][redis["command"].index("--requirepass") + 1])
    assert password.search(service["environment"]["AIRFLOW_CONN_QUEUE"])
    for image in (each["image"] for each in compose["services"].values()):
        assert re.search(r":\d+\.\d+(\.\d+)?(-\w+)?\}?$", image), "a fixed version"
    mounted = {volume.partition(":")[0] for s in compose["services"].values() for volume in s["volumes"]}
    assert mounted == compose["volumes"].keys()
    secrets = {s["source"] for service in compose["services"].values() for s in service.get("secrets", ())}
    assert secrets == compose["secrets"].keys()


def test_the_user_of_each_container_may_read_its_secrets_though_no_other_user_may() -> None:
    """Compose ignores owner and mode of a file, and cannot write others below a read-only root."""
    compose = yaml.safe_load(COMPOSE.read_text())
    [image_user] = re.findall(r"^USER (\S+)$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    owners = dict(re.findall(r"sudo chown (\d+) deploy/secrets/([\w-]+)", (DEPLOY / "README.md").read_text()))
    for service in compose["services"].values():
        for secret in service.get("secrets", ()):
            assert secret.keys() == {"source"}
            assert compose["secrets"][secret["source"]].keys() == {"file"}
            path = Path(compose["secrets"][secret["source"]]["file"])
            user, _, _group = service.get("user", image_user).partition(":")
            assert (str(path.parent), owners.get(user)) == ("secrets", path.name)


def test_every_container_is_hardened_as_the_pods_are(deployments: dict[str, list[Object]]) -> None:
    pod = pod_of(find_object(deployments["standalone"], "StatefulSet", "waitd")).container["securityContext"]
    assert pod["readOnlyRootFilesystem"] is True
    assert pod["allowPrivilegeEscalation"] is False
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == pod["capabilities"]["drop"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        assert service["mem_limit"], name
        assert service["pids_limit"] > 0, name
        assert any(path.startswith("/tmp:") for path in service["tmpfs"]), name
        if name != "waitd":  # its image has a user
            assert service["user"] not in {"root", "0"}, name
            assert "ports" not in service, name
            assert service["networks"] == ["backend"], "no way out, and none in"
