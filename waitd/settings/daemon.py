"""The settings of one daemon."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from waitd.core.waits.delivery import RETRY_DELAYS
from waitd.settings.cost import CostSettings
from waitd.settings.limits import LimitSettings
from waitd.settings.types import (
    DAY,
    Audience,
    Bind,
    EgressRules,
    Issuer,
    LogFormat,
    LogLevel,
    Names,
    NamespaceTable,
    OidcAlgorithm,
    ResolverName,
    RoleName,
    TlsKey,
    as_tuple,
    default_state_dir,
    entry_of,
    parse_bind,
)

#: Renamed settings: the old name and the new one.
RENAMED = {"ladder": "delivery_retry_delays", "airflow_hold_off": "resume_hold_off"}


class Settings(BaseSettings):
    """The effective settings of one daemon. Durations are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(
        env_prefix="WAITD_", env_nested_delimiter="__", extra="forbid", frozen=True, toml_file=None
    )

    bind: Bind = Field(
        "127.0.0.1:8795",
        description="Address and port of the API. An address other than loopback requires authentication.",
    )
    metrics_bind: Bind | None = Field(
        None,
        description="A further address and port that serves `/metrics` alone, in plain HTTP, to everyone who reaches it.",
    )
    authentication: bool | Literal["auto"] = Field(
        "auto",
        description="Whether callers of the API must authenticate. auto: if api_keys_file or oidc_issuer is set.",
    )
    api_keys_file: Path | None = Field(
        None, description="A file with one API key per line; read again when it changes."
    )
    open_metrics: bool = Field(
        False,
        description="Whether `/metrics` needs no key although callers must authenticate. It counts the waits of all namespaces.",
    )
    oidc_issuer: Issuer = Field(
        None, description="The issuer URL of the identity provider whose tokens are accepted."
    )
    oidc_audience: Audience = Field(
        (), validate_default=True, description="A token's `aud` must contain one of these."
    )
    oidc_algorithms: Annotated[tuple[OidcAlgorithm, ...], BeforeValidator(as_tuple)] = Field(
        ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"),
        min_length=1,
        description="The accepted signature algorithms of tokens.",
    )
    oidc_role_claim: str = Field(
        "roles",
        min_length=1,
        description="The claim with a caller's roles or groups; dots lead into objects.",
    )
    oidc_roles: dict[str, RoleName] = Field(
        default_factory=dict, description="Maps those names to viewer, submitter, operator or admin."
    )
    oidc_namespace_claim: str = Field(
        "", description="The claim with a caller's namespace; empty: everyone is in `default`."
    )
    namespaces: NamespaceTable = Field(
        default_factory=dict, description="What the waits of each namespace may use; empty: everything."
    )
    tls_certificate: Path | None = Field(
        None,
        description="The certificate chain of the API (PEM), which enables HTTPS; read again when it changes.",
    )
    tls_key: TlsKey = Field(
        None,
        validate_default=True,
        description="The private key of the certificate (PEM), without a password.",
    )
    state_dir: Path = Field(
        default_factory=default_state_dir, description="The directory of the database: a local disk, not NFS."
    )
    database_url: str | None = Field(
        None, description="A SQLAlchemy URL; default: waitd.db in the state directory."
    )
    state_ephemeral: bool | Literal["auto"] = Field(
        "auto",
        description="Whether the database's volume is lost with the pod or machine. auto: detect it from the mount.",
    )
    log_level: LogLevel = Field("info", description="debug, info, warning or error.")
    log_format: LogFormat = Field("auto", description="json, console, or auto: console on a terminal.")

    capacity: int = Field(
        100_000, ge=1, description="The most waits that are held; further submits get a 429."
    )
    poke_concurrency: int = Field(1000, ge=1, description="The most pokes in flight.")
    per_host_concurrency: int = Field(
        64, ge=1, description="The most pokes in flight to one origin (scheme, host, port)."
    )
    sql_connections: int = Field(
        4, ge=1, le=100, description="The most connections to one database, shared by all waits."
    )
    default_timeout: float = Field(
        7 * DAY, gt=0, description="The timeout of a wait that names none, in seconds."
    )
    max_timeout: float = Field(
        365 * DAY, gt=0, description="The longest timeout that a wait may have, in seconds."
    )
    min_poke_interval: float = Field(
        0.1, gt=0, description="The shortest poke_interval that a wait may have, in seconds."
    )

    delivery_retry_delays: tuple[float, ...] = Field(
        RETRY_DELAYS,
        min_length=1,
        description="Seconds before each delivery attempt; the length is the number of attempts.",
    )
    delivery_timeout: float = Field(
        15.0, gt=0, description="The time limit of a delivery attempt, in seconds."
    )
    per_destination_concurrency: int = Field(
        32, ge=1, description="The most deliveries in flight to one destination."
    )
    webhook_secret: SecretStr | None = Field(
        None, description="Signs webhooks whose connection has no secret of its own."
    )

    resume_hold_off: float | None = Field(
        None,
        ge=0,
        description="How many seconds an Airflow task must have been parked before it is resumed. Default: its min_heartbeat_interval plus 5 s.",
    )
    airflow_sweep_interval: float = Field(
        60.0,
        ge=1,
        description="Seconds between two checks which Airflow tasks are still parked; the waits of the others are cancelled.",
    )

    presets_dir: Path | None = Field(
        None, description="A directory of presets, one TOML file each, in addition to the built-in ones."
    )
    retention: float = Field(7 * DAY, ge=0, description="How long finished waits stay readable, in seconds.")
    retention_bytes: int = Field(
        0,
        ge=0,
        description="How many bytes of finished waits stay readable; beyond that the longest finished are deleted. 0: any.",
    )
    audit_entries: int = Field(1_000_000, ge=1000, description="The most audit entries that are kept.")
    disk_reserve: int = Field(
        268_435_456,
        ge=0,
        description="Submits get a 507 when fewer bytes than this, or than a tenth of the disk if that is less, are free. 0: never.",
    )
    disk_warning: int = Field(
        536_870_912,
        ge=0,
        description="`/readyz` says `degraded` when fewer bytes than this, or than a fifth of the disk if that is less, are free.",
    )
    signal_retention: float = Field(
        DAY, ge=60, description="How long a signal is kept for waits that are submitted later, in seconds."
    )
    s3_events_queue_url: str | None = Field(
        None, description="An SQS queue of S3 event notifications; waits for the reported keys poke at once."
    )
    s3_events_conn_id: str = Field(
        "aws_default", description="The connection with the credentials for that queue."
    )
    connection_cache: float = Field(
        60.0, ge=0, description="How many seconds a resolved connection is used before it is resolved again."
    )
    connection_resolvers: Annotated[tuple[ResolverName, ...], BeforeValidator(as_tuple)] = Field(
        ("environment", "file", "directory", "vault", "aws_secrets_manager"),
        description="Where connections are resolved, in this order; a source that is not configured is skipped.",
    )
    connections_file: Path | None = Field(
        None, description="A TOML, YAML or JSON file of connections; read again when it changes."
    )
    connections_directory: Path | None = Field(
        None, description="A directory with one file per conn_id, such as a mounted Kubernetes secret."
    )
    vault_url: str | None = Field(None, description="The URL of HashiCorp Vault.")
    vault_mount_point: str = Field("secret", description="The mount point of its KV engine (version 2).")
    vault_connections_path: str = Field(
        "connections", description="The path of the connections in that engine."
    )
    vault_namespace: str | None = Field(None, description="The namespace, in Vault Enterprise.")
    vault_ca_file: Path | None = Field(
        None, description="The CA certificates for Vault (PEM); default: the system's."
    )
    vault_auth: Literal["token", "approle", "kubernetes"] = Field(
        "token", description="How waitd logs in to Vault."
    )
    vault_auth_mount_point: str | None = Field(
        None, description="The mount point of that auth method; default: its name."
    )
    vault_token: SecretStr | None = Field(None, description="The token, for vault_auth token.")
    vault_role_id: str | None = Field(None, description="The role id, for vault_auth approle.")
    vault_secret_id: SecretStr | None = Field(None, description="The secret id, for vault_auth approle.")
    vault_kubernetes_role: str | None = Field(None, description="The role, for vault_auth kubernetes.")
    vault_kubernetes_jwt_path: Path = Field(
        Path("/var/run/secrets/kubernetes.io/serviceaccount/token"),
        description="The service account's token, for vault_auth kubernetes.",
    )
    secrets_manager_region: str | None = Field(
        None, description="The region of AWS Secrets Manager; without it, Secrets Manager is not used."
    )
    secrets_manager_connections_prefix: str = Field(
        "airflow/connections", description="The prefix of a secret's name, before the conn_id."
    )
    secrets_manager_endpoint: str | None = Field(None, description="Its endpoint, if it is not AWS's own.")
    secrets_manager_profile: str | None = Field(
        None, description="The AWS profile of the environment to use."
    )
    egress_allow: EgressRules = Field(
        (), description="Networks, addresses and host names (with *.) that are allowed as targets."
    )
    egress_deny: EgressRules = Field(
        (), description="Networks, addresses and host names (with *.) that are denied as targets."
    )
    name_lookups: Literal["c-ares", "system"] = Field(
        "c-ares",
        description="How host names are looked up. c-ares: by DNS and the hosts file; system: by all that nsswitch.conf names (mDNS, LDAP), in a thread each.",
    )
    max_idle_connections: int = Field(
        2048,
        ge=0,
        description="The most connections to targets that are kept open; a further one closes the least recently used idle one.",
    )
    max_idle_memory: int = Field(
        134_217_728,
        ge=1_048_576,
        description="The most memory of these idle connections in bytes: one takes 45 KiB with TLS, 17 without.",
    )
    tls_minimum_version: Literal["1.2", "1.3"] = Field(
        "1.2", description="The oldest version of TLS that targets may speak."
    )
    tls_trust_store: Literal["system", "certifi"] = Field(
        "system",
        description="The authorities that verify targets: the system's, or those of the package certifi.",
    )
    trust_env: bool = Field(
        True, description="Whether HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY of the environment apply."
    )
    secret_headers: Names = Field(
        ("authorization", "proxy-authorization", "cookie", "x-api-key", "*-token", "*-secret"),
        description="Header names (with *) that a wait must not have: secrets belong to a connection.",
    )
    max_long_polls: int = Field(
        2000,
        ge=0,
        description="The most open GET requests with `?wait=`; at most half of the connections.",
    )
    max_event_streams: int = Field(
        320, ge=0, description="The most open event streams; at most a quarter of the connections."
    )
    limits: LimitSettings = Field(
        default_factory=LimitSettings, description="What each namespace and each of its callers may hold."
    )
    max_connections: int = Field(
        4096,
        ge=16,
        description="The most open connections to the API; a further one closes the longest-idle one.",
    )
    requests_per_second: float = Field(
        5000.0,
        ge=0,
        description="The most requests per second of one caller; each line of a batch counts; 0: no limit.",
    )
    request_burst: int = Field(
        10_000, ge=1, description="The most requests of one caller at once after a pause."
    )
    cost: CostSettings = Field(default_factory=CostSettings, description="The cost ledger.")
    drain_timeout: float = Field(
        20.0, ge=0, description="How many seconds pokes and deliveries in flight may take after SIGTERM."
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_old_names(cls, values: dict[str, Any]) -> dict[str, Any]:
        variables = {name.upper() for name in os.environ}
        for old, new in RENAMED.items():
            variable = f"WAITD_{old.upper()}"
            if variable in variables:
                raise ValueError(f"{variable} is now WAITD_{new.upper()}; rename the variable")
            if old in values:
                raise ValueError(f"the setting {old} is now {new}; rename it in the settings file")
        return values

    def limits_of(self, namespace: str) -> LimitSettings:
        """The limits of a namespace: its own, those of `*`, and the general ones."""
        return self.limits.overridden(entry_of(self.namespaces, namespace).limits)

    @property
    def authenticates(self) -> bool:
        """Whether callers of the API must authenticate."""
        if self.authentication == "auto":
            return self.api_keys_file is not None or self.oidc_issuer is not None
        return self.authentication

    @property
    def host(self) -> str:
        """The host part of `bind`, without brackets."""
        return parse_bind(self.bind)[0]

    @property
    def port(self) -> int:
        """The port part of `bind`; with 0, the system chooses one."""
        return parse_bind(self.bind)[1]

    @property
    def store_url(self) -> str:
        """The SQLAlchemy URL of the database."""
        return self.database_url or f"sqlite+aiosqlite:///{self.state_dir / 'waitd.db'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The precedence: arguments, the environment, the TOML file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)
