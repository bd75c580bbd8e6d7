"""The settings, and the file that documents them."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from waitd.settings import Settings, load

DOCUMENTED = Path(__file__).parents[1] / "config" / "waitd.toml"
#: Settings with an example: they have no default, or one that depends on the machine.
EXAMPLES = {
    "s3_events_queue_url",
    "resume_hold_off",
    *("api_keys_file", "oidc_issuer", "oidc_audience", "oidc_roles", "namespaces"),
    *("tls_certificate", "tls_key", "metrics_bind"),
    *(
        "state_dir",
        "database_url",
        "webhook_secret",
        "connections_file",
        "connections_directory",
        "presets_dir",
    ),
    *(
        "vault_url",
        "vault_namespace",
        "vault_ca_file",
        "vault_auth_mount_point",
        "vault_token",
        "vault_role_id",
    ),
    *("vault_secret_id", "vault_kubernetes_role"),
    *("secrets_manager_region", "secrets_manager_endpoint", "secrets_manager_profile"),
}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("WAITD_"):
            monkeypatch.delenv(name)


def documented() -> dict[str, object]:
    text = DOCUMENTED.read_text()
    return tomllib.loads("\n".join(re.findall(r"^# ([a-z0-9_.]+ = .*)$", text, re.MULTILINE)))


def test_the_settings_file_names_every_setting_with_its_default() -> None:
    documented_settings = documented()
    assert set(documented_settings) == set(Settings.model_fields)
    defaults = Settings().model_dump(mode="json")
    for name, value in documented_settings.items():
        if name not in EXAMPLES:
            assert value == defaults[name], name


def test_the_settings_file_is_valid_and_changes_nothing() -> None:
    assert load(DOCUMENTED).model_dump() == Settings().model_dump()


def test_the_environment_takes_precedence_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "waitd.toml"
    file.write_text('capacity = 5\nbind = "127.0.0.1:1"\n')
    monkeypatch.setenv("WAITD_CAPACITY", "7")
    settings = load(file)
    assert (settings.capacity, settings.bind) == (7, "127.0.0.1:1")


def test_an_unknown_setting_in_the_file_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "waitd.toml"
    file.write_text("capacty = 5\n")
    with pytest.raises(ValidationError, match="capacty"):
        load(file)


def test_a_missing_file_is_reported_by_name() -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.toml"):
        load(Path("nowhere.toml"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WAITD_BIND", "8795"),
        ("WAITD_BIND", "127.0.0.1:http"),
        ("WAITD_BIND", "127.0.0.1:99999"),
        ("WAITD_CAPACITY", "0"),
        ("WAITD_LOG_LEVEL", "loud"),
        ("WAITD_LOG_FORMAT", "xml"),
        ("WAITD_DELIVERY_RETRY_DELAYS", "[]"),
        ("WAITD_MIN_POKE_INTERVAL", "0"),
        ("WAITD_CONNECTION_RESOLVERS", '["enviroment"]'),
        ("WAITD_EGRESS_ALLOW", '["10.0.0.0/33"]'),
        ("WAITD_EGRESS_DENY", '["http://h"]'),
        ("WAITD_VAULT_AUTH", "userpass"),
        ("WAITD_COST__VCPU_HOUR", "-1"),
        ("WAITD_AUTHENTICATION", "maybe"),
        ("WAITD_OIDC_ISSUER", "http://id.example.org"),
        ("WAITD_OIDC_ISSUER", "id.example.org"),
        ("WAITD_OIDC_ALGORITHMS", '["RS256", "HS256"]'),
        ("WAITD_OIDC_ALGORITHMS", '["none"]'),
        ("WAITD_OIDC_ALGORITHMS", "[]"),
        ("WAITD_OIDC_ROLES", '{"ops": "root"}'),
        ("WAITD_NAMESPACES", '{"a/b": {}}'),
        ("WAITD_NAMESPACES", '{"team_a": {"conn_id": ["x"]}}'),
        ("WAITD_COST__LABELS", '["day"]'),
        ("WAITD_COST__SLOT_HUOR", "1"),
        ("WAITD_COST__TRIGGERER_CAPACITY", "0"),
        ("WAITD_COST__TRIGGER_BYTES", '{"http": 1}'),
    ],
)
def test_an_invalid_value_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name.removeprefix("WAITD_").lower().replace("__", ".")):
        Settings()


def test_an_old_name_in_the_environment_is_refused_with_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAITD_LADDER", "[0, 1]")
    with pytest.raises(ValidationError, match="WAITD_LADDER is now WAITD_DELIVERY_RETRY_DELAYS"):
        Settings()


def test_an_old_name_in_the_file_is_refused_with_the_new_one(tmp_path: Path) -> None:
    file = tmp_path / "waitd.toml"
    file.write_text("ladder = [0, 1]\n")
    with pytest.raises(ValidationError, match="ladder is now delivery_retry_delays"):
        load(file)


def test_host_and_port_of_an_ipv6_address() -> None:
    settings = Settings(bind="[::1]:8795")
    assert (settings.host, settings.port) == ("::1", 8795)


@pytest.mark.parametrize("name", ["webhook_secret", "vault_token", "vault_secret_id"])
def test_the_repr_hides_secrets(name: str) -> None:
    assert "planted" not in repr(Settings.model_validate({name: "planted"}))


def test_an_issuer_requires_an_audience_of_comma_separated_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAITD_OIDC_ISSUER", "https://id.example.org")
    with pytest.raises(ValidationError, match="oidc_audience"):
        Settings()
    monkeypatch.setenv("WAITD_OIDC_AUDIENCE", "waitd, api://waitd")
    assert Settings().oidc_audience == ("waitd", "api://waitd")


@pytest.mark.parametrize(
    ("settings", "authenticates"),
    [
        ({}, False),
        ({"api_keys_file": "keys"}, True),
        ({"oidc_issuer": "https://id.example.org", "oidc_audience": ["waitd"]}, True),
        ({"authentication": True}, True),
        ({"authentication": False, "api_keys_file": "keys"}, False),
    ],
)
def test_callers_authenticate_if_keys_or_an_issuer_are_set(
    settings: dict[str, Any], authenticates: bool
) -> None:
    assert Settings.model_validate(settings).authenticates is authenticates


def test_namespaces_are_tables_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "waitd.toml"
    file.write_text('[namespaces.team_a]\nconn_ids = ["team_a_*"]\n[namespaces."*"]\n')
    namespaces = load(file).namespaces
    assert namespaces["team_a"].conn_ids == ("team_a_*",)
    assert namespaces["*"].sink_hosts == ()
