"""The validated types of the settings."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic_settings import NoDecode

from waitd.core.auth.namespaces import OTHER_NAMESPACES
from waitd.core.auth.principal import check_namespace
from waitd.core.connections.connection import parse_origin
from waitd.core.connections.egress import is_loopback, parse_egress_rule
from waitd.settings.limits import LimitSettings

DAY = 86_400.0
ResolverName = Literal["environment", "file", "directory", "vault", "aws_secrets_manager"]
OidcAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
RoleName = Literal["viewer", "submitter", "operator", "admin"]


def as_tuple(value: Any) -> Any:
    """A TOML or JSON list as a tuple; anything else unchanged."""
    return tuple(value) if isinstance(value, list) else value


def _split_names(value: Any) -> Any:
    """Splits the comma-separated names of an environment variable; other values are unchanged."""
    return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]


class NamespaceSettings(BaseModel):
    """What the waits of one namespace may use: patterns with `*`. A missing list allows nothing.

    An entry with nothing but `weight` and `limits` says nothing about what they may use.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    conn_ids: Names = Field((), description="Connections of waits and sinks.")
    sink_hosts: Names = Field((), description="Hosts that a sink names itself.")
    dag_ids: Names = Field((), description="DAGs to which a sink delivers.")
    weight: float = Field(
        1.0,
        ge=0.01,
        le=100.0,
        description="Its share of what several namespaces want at the same time: one with 2 gets twice as much as one with 1.",
    )
    limits: LimitSettings = Field(
        default_factory=LimitSettings, description="Limits that differ from the general ones."
    )

    @property
    def has_rules(self) -> bool:
        """Whether the entry says what the waits may use."""
        return not self.model_fields_set or bool(self.model_fields_set - {"weight", "limits"})


def default_state_dir() -> Path:
    """`$XDG_STATE_HOME/waitd`, else `~/.local/state/waitd`."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "waitd"


def parse_bind(bind: str) -> tuple[str, int]:
    """The host, without brackets, and the port of a valid address to listen on."""
    host, _, port = bind.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _check_bind(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("must be HOST:PORT, e.g. 127.0.0.1:8795 or [::1]:8795")
    return value


def _check_tls_pair(value: Path | None, info: ValidationInfo) -> Path | None:
    if (value is None) is not (info.data.get("tls_certificate") is None):
        raise ValueError("set both tls_certificate and tls_key, or neither")
    return value


def _check_egress_rule(value: str) -> str:
    parse_egress_rule(value)
    return value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _check_issuer(value: str | None) -> str | None:
    if value is not None:
        origin = parse_origin(value)
        if origin.scheme != "https" and not is_loopback(origin.host):
            raise ValueError("the URL of an issuer must begin with https://")
    return value


def _check_audience(value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    if info.data.get("oidc_issuer") is not None and not all(value or [""]):
        raise ValueError("set the audience of the tokens, which oidc_issuer requires")
    return value


def _check_namespace_name(value: str) -> str:
    return value if value == OTHER_NAMESPACES else check_namespace(value)


Bind = Annotated[str, AfterValidator(_check_bind)]
#: Declared after `tls_certificate`, with which it is compared.
TlsKey = Annotated[Path | None, AfterValidator(_check_tls_pair)]
EgressRules = Annotated[
    tuple[Annotated[str, AfterValidator(_check_egress_rule)], ...], BeforeValidator(as_tuple)
]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]
LogFormat = Literal["auto", "json", "console"]
Issuer = Annotated[str | None, AfterValidator(_check_issuer)]
#: Declared after `oidc_issuer`, with which it is compared.
Audience = Annotated[Names, NoDecode, BeforeValidator(_split_names), AfterValidator(_check_audience)]
_NO_SETTINGS = NamespaceSettings()
NamespaceTable = dict[Annotated[str, AfterValidator(_check_namespace_name)], NamespaceSettings]


def entry_of(table: NamespaceTable, namespace: str) -> NamespaceSettings:
    """The entry of a namespace, else that of `*`, else an empty one."""
    return table.get(namespace) or table.get(OTHER_NAMESPACES) or _NO_SETTINGS
