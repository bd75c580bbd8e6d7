"""Every setting, its default and its environment variable `WAITD_<NAME>`; an environment variable wins over the TOML file.

Read once, by `waitd.app` and the CLI; everything else is handed plain values. What a setting means in detail stands beside it in
`config/waitd.toml`, which a test holds against this file.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from waitd.core.delivery import LADDER
from waitd.core.egress import entry_of

DAY = 86_400.0


def default_state_dir() -> Path:
    """`$XDG_STATE_HOME/waitd`, else `~/.local/state/waitd`."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "waitd"


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
ResolverName = Literal["environment", "file", "directory", "vault", "aws_secrets_manager"]


class Settings(BaseSettings):
    """The effective settings of one daemon. Durations are seconds, sizes bytes."""

    model_config = SettingsConfigDict(
        env_prefix="WAITD_", env_nested_delimiter="__", extra="forbid", frozen=True, toml_file=None
    )

    bind: str = Field(
        "127.0.0.1:8795", description="Address and port of the API. Only loopback without authentication."
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
    default_timeout: float = Field(7 * DAY, gt=0, description="The timeout of a wait that names none.")
    max_timeout: float = Field(365 * DAY, gt=0, description="The longest timeout a wait may ask for.")
    min_poke_interval: float = Field(0.1, gt=0, description="The shortest poke_interval a wait may ask for.")

    ladder: tuple[float, ...] = Field(
        LADDER, min_length=1, description="Pauses before each delivery attempt."
    )
    delivery_timeout: float = Field(15.0, gt=0, description="How long one delivery attempt may take.")
    per_destination_concurrency: int = Field(32, ge=1, description="Deliveries in flight to one destination.")
    webhook_secret: SecretStr | None = Field(
        None, description="Signs webhooks whose connection has no secret of its own."
    )

    retention: float = Field(7 * DAY, ge=0, description="How long ended waits stay readable.")
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
    drain_timeout: float = Field(
        20.0, ge=0, description="How long pokes and deliveries in flight may take after SIGTERM."
    )

    @field_validator("bind")
    @classmethod
    def _bind_has_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError("write it as HOST:PORT, e.g. 127.0.0.1:8795 or [::1]:8795")
        return value

    @field_validator("egress_allow", "egress_deny")
    @classmethod
    def _entries(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for line in value:
            entry_of(line)
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
