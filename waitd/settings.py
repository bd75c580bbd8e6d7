"""Every setting, its default and its environment variable `WAITD_<NAME>`; an environment variable wins over the TOML file.

Read once, by `waitd.app` and the CLI; everything else is handed plain values. What a setting means in detail stands beside it in
`config/waitd.toml`, which a test holds against this file.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from waitd.core.auth.namespaces import OTHER_NAMESPACES
from waitd.core.auth.principal import check_namespace
from waitd.core.connections.connection import parse_origin
from waitd.core.connections.egress import is_loopback, parse_egress_rule
from waitd.core.costs.model import DEFAULT_KIND, CostConstants, Prices
from waitd.core.waits.delivery import RETRY_DELAYS

DAY = 86_400.0
#: Settings that were renamed: the old name and the new one.
RENAMED = {"ladder": "delivery_retry_delays"}


def default_state_dir() -> Path:
    """`$XDG_STATE_HOME/waitd`, else `~/.local/state/waitd`."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "waitd"


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _with_default(value: dict[str, float]) -> dict[str, float]:
    if DEFAULT_KIND not in value:
        raise ValueError(f"a value for the kinds that are not named is missing: {DEFAULT_KIND}")
    return value


def _as_names(value: Any) -> Any:
    """A list; or a text of names with commas between them, as an environment variable has them."""
    return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]


def _are_labels(value: tuple[str, ...]) -> tuple[str, ...]:
    if taken := {"", "kind", "day"} & set(value):
        raise ValueError(f"costs are added up by kind and by day anyway; {min(taken)!r} can be no label here")
    return value


ResolverName = Literal["environment", "file", "directory", "vault", "aws_secrets_manager"]


ByKind = Annotated[dict[str, Annotated[float, Field(ge=0)]], AfterValidator(_with_default)]
MIB = 2.0**20


OidcAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
RoleName = Literal["viewer", "submitter", "operator", "admin"]


class NamespaceSettings(BaseModel):
    """What the waits of one namespace may name: patterns with `*`; what is left out, is nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    conn_ids: Names = Field((), description="Connections, of waits and sinks.")
    sink_hosts: Names = Field((), description="Hosts that a sink names itself.")
    dag_ids: Names = Field((), description="DAGs that a sink tells.")


class CostSettings(BaseModel):
    """What the ledger counts with. Each constant's source stands beside it in `config/waitd.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(True, description="Whether what waiting costs is measured and added up.")
    labels: Annotated[Names, AfterValidator(_are_labels)] = Field(
        ("dag_id",), max_length=4, description="The labels by whose values costs are added up."
    )
    values: int = Field(
        1000, ge=1, description="How many values of a label a day and namespace may have; others are one."
    )
    retention: float = Field(400 * DAY, ge=DAY, description="How long the sums of a day are kept.")
    currency: str = Field("USD", min_length=1, max_length=8, description="What the prices are in.")
    slot_hour: float = Field(0.0, ge=0, description="What a worker slot costs beside its CPU and memory.")
    vcpu_hour: float = Field(0.04048, ge=0, description="What an hour of CPU time costs.")
    gib_hour: float = Field(0.004445, ge=0, description="What a GiB of memory costs for an hour.")
    task_cpu_seconds: float = Field(0.445, ge=0, description="CPU of a trivial task, start to end.")
    defer_cpu_seconds: float = Field(0.114, ge=0, description="CPU of a run that only defers or parks.")
    callback_cpu_seconds: float = Field(0.006, ge=0, description="CPU of taking a callback.")
    reschedule_cpu_seconds: ByKind = Field(
        {"default": 0.176, "http": 0.342, "s3_key": 0.514, "s3_keys_unchanged": 0.514},
        description="CPU of one poke of a rescheduled sensor, by kind.",
    )
    run_seconds: float = Field(0.9, gt=0, description="How long such a run holds its slot.")
    slot_bytes: float = Field(76e6, ge=0, description="Memory of a held slot.")
    trigger_cpu_seconds: ByKind = Field(
        {"default": 0.0012, "s3_key": 0.0061, "s3_keys_unchanged": 0.0061},
        description="CPU of one poke of a trigger, by kind.",
    )
    trigger_bytes: ByKind = Field(
        {"default": 55e3, "s3_key": 1.45 * MIB, "s3_keys_unchanged": 1.45 * MIB},
        description="Memory of a trigger, by kind.",
    )
    triggerer_bytes: float = Field(464 * MIB, ge=0, description="Memory of a Triggerer without triggers.")
    triggerer_capacity: int = Field(1000, ge=1, description="How many triggers a Triggerer holds.")
    poke_cpu_seconds: ByKind = Field(
        {"default": 110e-6, "s3_key": 150e-6, "s3_keys_unchanged": 300e-6},
        description="CPU of a poke of waitd, by kind: until it is measured, and for whatif.",
    )
    wait_bytes: float = Field(1200.0, ge=0, description="Memory of a wait in waitd, for whatif.")
    process_bytes: float = Field(160 * MIB, ge=0, description="Memory of waitd itself, for whatif.")

    @property
    def constants(self) -> CostConstants:
        """What the model takes as given."""
        return CostConstants(**{name: getattr(self, name) for name in CostConstants.__dataclass_fields__})

    @property
    def prices(self) -> Prices:
        """What is paid."""
        return Prices(self.slot_hour, self.vcpu_hour, self.gib_hour, self.currency)


class Settings(BaseSettings):
    """The effective settings of one daemon. Durations are seconds, sizes bytes."""

    model_config = SettingsConfigDict(
        env_prefix="WAITD_", env_nested_delimiter="__", extra="forbid", frozen=True, toml_file=None
    )

    bind: str = Field(
        "127.0.0.1:8795", description="Address and port of the API. Off loopback only with authentication."
    )
    authentication: bool | Literal["auto"] = Field(
        "auto",
        description="Whether the API's callers must authenticate; auto: if api_keys_file or oidc_issuer is set.",
    )
    api_keys_file: Path | None = Field(
        None, description="A file of API keys, one a line; read again when it changes."
    )
    open_metrics: bool = Field(
        False,
        description="Whether `/metrics` is shown without a key where callers must authenticate; it counts all namespaces' waits.",
    )
    oidc_issuer: str | None = Field(
        None, description="The identity provider whose tokens are taken: its issuer URL."
    )
    oidc_audience: Annotated[Names, NoDecode, BeforeValidator(_as_names)] = Field(
        (), validate_default=True, description="One of these must be among a token's `aud`."
    )
    oidc_algorithms: Annotated[tuple[OidcAlgorithm, ...], BeforeValidator(_as_tuple)] = Field(
        ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"),
        min_length=1,
        description="How its tokens may be signed.",
    )
    oidc_role_claim: str = Field(
        "roles", min_length=1, description="The claim that names roles or groups; dots lead into objects."
    )
    oidc_roles: dict[str, RoleName] = Field(
        default_factory=dict, description="What each of those is here: viewer, submitter, operator or admin."
    )
    oidc_namespace_claim: str = Field(
        "", description="The claim that names the namespace; none: everybody is in `default`."
    )
    namespaces: dict[str, NamespaceSettings] = Field(
        default_factory=dict, description="What the waits of a namespace may name; none: everything."
    )
    tls_certificate: Path | None = Field(
        None, description="The API's certificate chain (PEM); read again when it changes. With it: HTTPS."
    )
    tls_key: Path | None = Field(
        None, validate_default=True, description="Its private key (PEM), without a password."
    )
    state_dir: Path = Field(
        default_factory=default_state_dir, description="Where the database lies. A local disk, not NFS."
    )
    database_url: str | None = Field(
        None, description="A SQLAlchemy URL; default: waitd.db in the state directory."
    )
    state_ephemeral: bool | Literal["auto"] = Field(
        "auto",
        description="Whether the database's volume ends with the pod or machine; auto: judge by its mount.",
    )
    log_level: str = Field("info", description="debug, info, warning or error.")
    log_format: str = Field("auto", description="json, console, or auto: console on a terminal.")

    capacity: int = Field(
        100_000, ge=1, description="How many waits are held at most; more are answered 429."
    )
    poke_concurrency: int = Field(1000, ge=1, description="How many pokes are in flight at most.")
    per_host_concurrency: int = Field(
        64, ge=1, description="How many of them at one origin (scheme, host, port)."
    )
    sql_connections: int = Field(
        4, ge=1, le=100, description="How many connections a database gets, for all waits together."
    )
    default_timeout: float = Field(7 * DAY, gt=0, description="The timeout of a wait that names none.")
    max_timeout: float = Field(365 * DAY, gt=0, description="The longest timeout a wait may ask for.")
    min_poke_interval: float = Field(0.1, gt=0, description="The shortest poke_interval a wait may ask for.")

    delivery_retry_delays: tuple[float, ...] = Field(
        RETRY_DELAYS, min_length=1, description="Pauses before each delivery attempt."
    )
    delivery_timeout: float = Field(15.0, gt=0, description="How long one delivery attempt may take.")
    per_destination_concurrency: int = Field(32, ge=1, description="Deliveries in flight to one destination.")
    webhook_secret: SecretStr | None = Field(
        None, description="Signs webhooks whose connection has no secret of its own."
    )

    airflow_hold_off: float = Field(
        10.0,
        ge=5,
        description="How long Airflow's task has been seen parked before it is resumed: its min_heartbeat_interval and 5 s more.",
    )
    airflow_sweep_interval: float = Field(
        60.0,
        ge=1,
        description="How often Airflow is asked which tasks are still parked; the waits of others are cancelled.",
    )

    presets_dir: Path | None = Field(
        None, description="A directory of presets, one TOML file each, besides those that come with waitd."
    )
    retention: float = Field(7 * DAY, ge=0, description="How long ended waits stay readable.")
    signal_retention: float = Field(
        DAY, ge=60, description="How long a signal is kept for waits that come later."
    )
    s3_events_queue_url: str | None = Field(
        None, description="An SQS queue of S3 event notifications; waits for their keys are poked at once."
    )
    s3_events_conn_id: str = Field(
        "aws_default", description="The connection that knows the credentials for that queue."
    )
    connection_cache: float = Field(
        60.0, ge=0, description="How long a looked-up connection is used before it is asked anew."
    )
    connection_resolvers: Annotated[tuple[ResolverName, ...], BeforeValidator(_as_tuple)] = Field(
        ("environment", "file", "directory", "vault", "aws_secrets_manager"),
        description="Where connections are looked up, in this order; what is not configured is left out.",
    )
    connections_file: Path | None = Field(
        None, description="A TOML or YAML file of connections; read again when it changes."
    )
    connections_directory: Path | None = Field(
        None, description="A directory with a file for each conn_id, as Kubernetes mounts a secret."
    )
    vault_url: str | None = Field(None, description="HashiCorp Vault's URL.")
    vault_mount_point: str = Field("secret", description="Where its KV engine (version 2) is mounted.")
    vault_connections_path: str = Field("connections", description="The path of the connections in it.")
    vault_namespace: str | None = Field(None, description="The namespace, in Vault Enterprise.")
    vault_ca_file: Path | None = Field(
        None, description="Certificates to check Vault's against; none: the system's."
    )
    vault_auth: Literal["token", "approle", "kubernetes"] = Field(
        "token", description="How waitd proves itself to Vault."
    )
    vault_auth_mount_point: str | None = Field(
        None, description="Where that way is mounted; default: its name."
    )
    vault_token: SecretStr | None = Field(None, description="The token, for vault_auth token.")
    vault_role_id: str | None = Field(None, description="The role's id, for vault_auth approle.")
    vault_secret_id: SecretStr | None = Field(None, description="Its secret id.")
    vault_kubernetes_role: str | None = Field(None, description="The role, for vault_auth kubernetes.")
    vault_kubernetes_jwt_path: Path = Field(
        Path("/var/run/secrets/kubernetes.io/serviceaccount/token"),
        description="The service account's token.",
    )
    secrets_manager_region: str | None = Field(
        None, description="The region of AWS Secrets Manager; none: it is not asked."
    )
    secrets_manager_connections_prefix: str = Field(
        "airflow/connections", description="What stands before the conn_id in a secret's name."
    )
    secrets_manager_endpoint: str | None = Field(None, description="Its endpoint, where it is not AWS's own.")
    secrets_manager_profile: str | None = Field(None, description="Which of the environment's AWS profiles.")
    egress_allow: Names = Field(
        (), description="Networks, addresses and host names (with *.) that waits may name besides."
    )
    egress_deny: Names = Field((), description="Networks, addresses and host names that they may not.")
    secret_headers: Names = Field(
        ("authorization", "proxy-authorization", "cookie", "x-api-key", "*-token", "*-secret"),
        description="Header names (with *) refused in a wait: secrets belong to a connection.",
    )
    max_long_polls: int = Field(1000, ge=0, description="How many GET ?wait= may be open at once.")
    max_connections: int = Field(4096, ge=16, description="How many connections to the API may be open.")
    requests_per_second: float = Field(
        5000.0, ge=0, description="Requests a caller may send, a batch's lines each; 0: no limit."
    )
    request_burst: int = Field(10_000, ge=1, description="How many of them may come at once after a pause.")
    cost: CostSettings = Field(default_factory=CostSettings, description="What waiting costs.")
    drain_timeout: float = Field(
        20.0, ge=0, description="How long pokes and deliveries in flight may take after SIGTERM."
    )

    @model_validator(mode="before")
    @classmethod
    def _no_old_names(cls, values: dict[str, Any]) -> dict[str, Any]:
        variables = {name.upper() for name in os.environ}
        for old, new in RENAMED.items():
            variable = f"WAITD_{old.upper()}"
            if variable in variables:
                raise ValueError(f"{variable} is now WAITD_{new.upper()}; rename the variable")
            if old in values:
                raise ValueError(f"the setting {old} is now {new}; rename it in the settings file")
        return values

    @field_validator("bind")
    @classmethod
    def _bind_has_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError("write it as HOST:PORT, e.g. 127.0.0.1:8795 or [::1]:8795")
        return value

    @field_validator("tls_key")
    @classmethod
    def _both_or_neither(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if (value is None) is not (info.data.get("tls_certificate") is None):
            raise ValueError("tls_certificate and tls_key go together: set both, or neither")
        return value

    @field_validator("egress_allow", "egress_deny")
    @classmethod
    def _entries(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for line in value:
            parse_egress_rule(line)
        return value

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.lower() not in {"debug", "info", "warning", "error"}:
            raise ValueError("one of debug, info, warning, error")
        return value.lower()

    @field_validator("log_format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        if value not in {"auto", "json", "console"}:
            raise ValueError("one of auto, json, console")
        return value

    @field_validator("oidc_issuer")
    @classmethod
    def _is_issuer(cls, value: str | None) -> str | None:
        if value is not None:
            origin = parse_origin(value)
            if origin.scheme != "https" and not is_loopback(origin.host):
                raise ValueError("an issuer's URL begins with https://")
        return value

    @field_validator("oidc_audience")
    @classmethod
    def _has_audience(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.data.get("oidc_issuer") is not None and not all(value or [""]):
            raise ValueError("with oidc_issuer, say for whom its tokens are issued")
        return value

    @field_validator("namespaces")
    @classmethod
    def _are_namespaces(cls, value: dict[str, NamespaceSettings]) -> dict[str, NamespaceSettings]:
        for name in value:
            if name != OTHER_NAMESPACES:
                check_namespace(name)
        return value

    @property
    def authenticates(self) -> bool:
        """Whether callers of the API have to say who they are."""
        if self.authentication == "auto":
            return self.api_keys_file is not None or self.oidc_issuer is not None
        return self.authentication

    @property
    def host(self) -> str:
        """The host part of `bind`, without brackets."""
        return self.bind.rpartition(":")[0].removeprefix("[").removesuffix("]")

    @property
    def port(self) -> int:
        """The port part of `bind`; 0 lets the system choose."""
        return int(self.bind.rpartition(":")[2])

    @property
    def store_url(self) -> str:
        """The SQLAlchemy URL of the database in force."""
        return self.database_url or f"sqlite+aiosqlite:///{self.state_dir / 'waitd.db'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' shape
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' shape
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the TOML file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load(config: Path | None = None, **overrides: Any) -> Settings:
    """The settings from the environment over the TOML file `config` over the defaults; `overrides` win over all.

    Raises:
        FileNotFoundError: `config` is given and is not there.
        pydantic.ValidationError: a value is wrong, or a name is unknown.
    """
    if config is None:
        return Settings(**overrides)
    if not config.is_file():
        raise FileNotFoundError(f"there is no settings file {config}")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    return FromFile(**overrides)
