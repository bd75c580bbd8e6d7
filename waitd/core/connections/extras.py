"""What waitd does with the extras of a connection, by its type: no extra is passed over in silence.

The measure is what Airflow's hook for the type reads. An extra is used as the hook uses it; or it
is refused by its name, because a request without it would be another one; or it is ignored, because
it does not concern requests, and a log line says so. Extras that the hook does not read either are
ignored, too. For Airflow's `HttpHook` there are none: it sends every other extra as a header.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from waitd.core.connections.connection import Connection
from waitd.core.connections.http_options import parse_http_options

#: What waitd itself reads of any connection over HTTP.
_OWN = frozenset({"auth_type", "headers", "token_header", "webhook_secret"})
#: What single auth_types read. A connection without auth_type that `HttpHook` may use sends these
#: as headers, as the hook does.
AUTH_EXTRAS: Mapping[str, frozenset[str]] = {
    "none": frozenset(),
    "basic": frozenset(),
    "bearer": frozenset({"token"}),
    "header": frozenset({"header_name"}),
    "oauth2_client_credentials": frozenset(
        {"token_url", "client_id", "client_secret", "scope", "audience", "token_endpoint_auth_method"}
    ),
    "airflow": frozenset({"token", "token_url"}),
    "airbyte": frozenset({"token_url", "client_id", "client_secret"}),
    "google_service_account": frozenset({"keyfile_dict", "scope", "target_audience"}),
    "azure_storage": frozenset({"tenant_id", "shared_access_key"}),
    "aws_sigv4": frozenset(
        {
            *("aws_service", "aws_access_key_id", "aws_secret_access_key", "aws_session_token"),
            *("region_name", "profile_name", "role_arn", "external_id", "assume_role_method"),
            *("assume_role_kwargs", "endpoint_url", "service_config", "config_kwargs", "session_kwargs"),
        }
    ),
}
_AUTH = frozenset().union(*AUTH_EXTRAS.values())
#: What `HttpHook` reads, and `waitd.core.connections.http_options`.
_HTTP = frozenset(
    {
        *("verify", "verify_ssl", "cert", "proxies", "proxy", "trust_env"),
        *("allow_redirects", "max_redirects", "check_response", "timeout"),
    }
)
#: Fields of an AWS connection's `config_kwargs`, and of its `s3`, that do not change what a request
#: says or whom it asks.
AWS_CONFIG_IGNORED = frozenset(
    {
        *("connect_timeout", "read_timeout", "retries", "max_pool_connections", "tcp_keepalive"),
        *("user_agent", "user_agent_extra", "user_agent_appid", "parameter_validation"),
        *("inject_host_prefix", "request_min_compression_size_bytes", "disable_request_compression"),
        *("request_checksum_calculation", "response_checksum_validation", "account_id_endpoint_mode"),
        *("payload_signing_enabled", "us_east_1_regional_endpoint"),
    }
)
_PARAM = "it is a parameter of the wait"
_CLIENT = "it concerns the hook's own client"
_CREDENTIALS = "these credentials are not supported; set auth_type"


#: Values of extras that are the same as none.
_DEFAULTS = ("false", "False", "AzurePublicCloud")


class ExtraRules(NamedTuple):
    """What is done with the extras of a connection type.

    Attributes:
        used: read as Airflow's hook reads them.
        ignored: why they do not concern waitd, by name.
        refused: what to do instead, by name.
        credentials: refused where auth_type does not say how to authenticate.
        headers: every other extra is sent as a header, as by `HttpHook`.
        others: why every other extra is ignored, unless it is a header.
    """

    used: frozenset[str] = frozenset()
    ignored: Mapping[str, str] = {}
    refused: Mapping[str, str] = {}
    credentials: frozenset[str] = frozenset()
    headers: bool = False
    others: str = "Airflow's hook does not read it either"

    @property
    def known(self) -> frozenset[str]:
        """All names that these rules decide on."""
        return self.used | self.ignored.keys() | self.refused.keys() | self.credentials


def _vendor(
    *used: str, ignored: Mapping[str, str] | None = None, credentials: tuple[str, ...] = (), **refused: str
) -> ExtraRules:
    """The rules of a vendor's API; `used` are the extras that only its hook reads."""
    return ExtraRules(_OWN | _HTTP | _AUTH | {*used}, {**_IGNORED, **(ignored or {})}, {**_REFUSED, **refused}, frozenset(credentials))  # fmt: skip


_IGNORED = {"stream": "an answer is always read as it arrives"}
_REFUSED = {"srv_lookup": "name the host and the port of a server"}

HTTP_RULES = ExtraRules(_OWN | _HTTP, _IGNORED, _REFUSED, headers=True)
AWS_RULES = _vendor(
    ignored={
        **dict.fromkeys(("profile", "s3_config_file"), "Airflow's hook does not read it any more"),
        "timeout": "a wait's request_timeout limits its pokes",
        "assume_role_with_saml": "it applies to another assume_role_method",
        "assume_role_with_web_identity_federation": "it applies to another assume_role_method",
        "assume_role_with_web_identity_federation_audience": "it applies to another assume_role_method",
        "assume_role_with_web_identity_token_file": "it applies to another assume_role_method",
    },
)
_AZURE = _vendor(
    *("tenantId", "subscriptionId"),
    ignored=dict.fromkeys(("resource_group_name", "factory_name"), _PARAM),
    credentials=("managed_identity_client_id", "workload_identity_tenant_id", "key_path", "key_json", "use_azure_identity_object"),
    cloud_environment="name that cloud's endpoints in host and token_url",
)  # fmt: skip
_SQL_REFUSED = {
    "verify": "name the authorities by the database's own extras",
    "cert": "name the certificate by the database's own extras",
    "iam": "set login and password",
}
_POSTGRES = ExtraRules(
    frozenset({"sslmode", "sslrootcert", "sslcert", "sslkey", "ssl_min_protocol_version"}),
    {
        **dict.fromkeys(
            ("cursor", "sqlalchemy_scheme", "sqlalchemy_query", "enable_log_db_messages"), _CLIENT
        ),
        **dict.fromkeys(("placeholder", "insert_statement_format", "replace_statement_format"), _CLIENT),
        **dict.fromkeys(("escape_word_format", "escape_column_names"), _CLIENT),
        **dict.fromkeys(("aws_conn_id", "cluster-identifier", "workgroup-name"), "it applies with iam"),
    },
    {
        **_SQL_REFUSED,
        **dict.fromkeys(("redshift", "redshift-serverless", "azure_conn_id"), "set login and password"),
        **dict.fromkeys(("sslcrl", "sslcrldir"), "revoked certificates cannot be recognized"),
        "sslpassword": "the key must not be encrypted",
        "channel_binding": "the server is verified by sslmode verify-full",
        "require_auth": "the server is verified by sslmode verify-full",
    },
    others="libpq reads it, which waitd does not use",
)
_MYSQL = ExtraRules(
    frozenset(
        {
            *("ssl", "ssl_mode", "ssl_disabled", "ssl_ca", "ssl_cert", "ssl_key"),
            *("ssl_verify_cert", "ssl_verify_identity"),
        }
    ),
    {
        **dict.fromkeys(("client", "charset", "cursor", "local_infile", "allow_local_infile"), _CLIENT),
        "aws_conn_id": "it applies with iam",
    },
    {
        **_SQL_REFUSED,
        "unix_socket": "name the host",
        **dict.fromkeys(("ssl_cipher", "ssl_fips_mode"), "the ciphers are those of OpenSSL"),
    },
)
#: By Airflow's conn_type. Every other type has the rules of http.
RULES: Mapping[str, ExtraRules] = {
    "postgres": _POSTGRES,
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "redis": ExtraRules(
        frozenset(
            {
                *("db", "ssl", "ssl_cert_reqs", "ssl_ca_certs", "ssl_keyfile", "ssl_certfile"),
                *("ssl_check_hostname", "verify", "verify_ssl"),
            }
        ),
        dict.fromkeys(("cluster", "startup_nodes"), "the sink asks one server, and reports if a stream is on another"),
    ),
    "kafka": ExtraRules(
        frozenset(
            {
                *("bootstrap.servers", "client.id", "security.protocol", "sasl.mechanism", "sasl.mechanisms"),
                *("sasl.username", "sasl.password", "ssl.ca.location", "ssl.certificate.location"),
                *("ssl.key.location", "ssl.key.password", "enable.ssl.certificate.verification"),
                *("ssl.endpoint.identification.algorithm",),
            }
        ),
        others="librdkafka reads it, which waitd does not use",
    ),
    "aws": AWS_RULES,
    "airbyte": _vendor(),
    "airflow": _vendor(),
    "azure": _AZURE,
    "azure_data_factory": _AZURE,
    "databricks": _vendor(
        ignored={
            **dict.fromkeys(("http_path", "session_configuration", "user_agent_entry", "azure_ad_endpoint", "azure_resource_id"), _CLIENT),
            **dict.fromkeys(("aws_conn_id", "aws_jwt_audience", "aws_web_identity_token_duration"), "it applies with federated_aws"),
            "expiration_seconds": "it applies with federated_k8s",
        },
        credentials=(
            *("use_azure_managed_identity", "use_default_azure_credential", "azure_managed_identity_client_id"),
            *("azure_tenant_id", "service_principal_oauth", "federated_k8s", "k8s_token_path"),
            *("federated_aws", "federated_token_provider"),
            *("k8s_namespace_path", "k8s_projected_volume_token_path"),
        ),
        host="put it into the connection's host",
    ),
    "dbt_cloud": _vendor(),
    "github": _vendor(credentials=("key_path", "private_key", "app_id", "installation_id", "token_permissions")),
    "google_cloud_platform": _vendor(
        ignored={"project": _PARAM, "num_retries": _CLIENT},
        credentials=(
            *("key_path", "credential_config_file", "key_secret_name", "key_secret_project_id"),
            *("impersonation_chain", "idp_issuer_url", "idp_extra_parameters", "idp_extra_params", "is_anonymous"),
        ),
        quota_project_id="set the header x-goog-user-project in headers",
    ),
    "kubernetes": _vendor(
        ignored=dict.fromkeys(
            (
                *("namespace", "disable_tcp_keepalive", "xcom_sidecar_container_image"),
                *("xcom_sidecar_container_resources", "xcom_sidecar_container_security_context"),
            ),
            _PARAM,
        ),
        credentials=("in_cluster", "kube_config", "kube_config_path", "cluster_context"),
        disable_verify_ssl="set verify to false",
    ),
    "snowflake": _vendor(
        "account",
        ignored=dict.fromkeys(
            (
                *("warehouse", "database", "role", "session_parameters", "insecure_mode", "ocsp_fail_open"),
                *("client_request_mfa_token", "client_store_temporary_credential", "json_result_force_utf8_decoding"),
            ),
            _PARAM,
        ) | {
            **dict.fromkeys(("oauth_username", "oauth_password"), "it applies with grant_type"),
            "token_file_path": "it applies with workload_identity_provider",
        },
        credentials=(
            *("authenticator", "private_key_file", "private_key_content", "refresh_token", "grant_type"),
            *("token_endpoint", "azure_conn_id", "workload_identity_provider"),
        ),
        region="put it into account, as in ACCOUNT.REGION",
        host="put it into the connection's host",
        port="put it into the connection's port",
        **dict.fromkeys(("proxy_host", "proxy_port", "proxy_user", "proxy_password"), "set proxy to the URL of the proxy"),
    ),
    "spark": _vendor(
        ignored=dict.fromkeys(
            ("queue", "deploy-mode", "spark-binary", "spark-home", "namespace", "principal", "keytab", "properties-file"),
            "it concerns spark-submit",
        )
    ),
    "wasb": _vendor(
        ignored={"client_secret_auth_config": _CLIENT},
        credentials=("account_key", "managed_identity_client_id", "workload_identity_tenant_id"),
        sas_token=_CREDENTIALS,
        connection_string=_CREDENTIALS,
    ),
}  # fmt: skip


def rules_of(connection: Connection) -> ExtraRules:
    """The rules of a connection that is used over HTTP."""
    return RULES.get(connection.conn_type, HTTP_RULES)


def check_extras(connection: Connection) -> None:
    """Checks the extras of a connection that is used over HTTP.

    Raises:
        ValueError: an extra is set that cannot be used. The message names it and quotes no value.
    """
    extra, rules = connection.extra, rules_of(connection)
    for name, instead in rules.refused.items():
        if _is_set(extra.get(name)):
            raise ValueError(f"the extra's {name} is not supported: {instead}")
    if "auth_type" not in extra:
        for name in rules.credentials:
            if _is_set(extra.get(name)):
                raise ValueError(f"the extra's {name} is not supported: {_CREDENTIALS}")
    parse_http_options(extra)


def ignored_extras(connection: Connection) -> Mapping[str, str]:
    """Why extras of a connection that is used over HTTP are ignored, by name."""
    rules = rules_of(connection)
    reasons: dict[str, str] = {}
    auth_type = str(connection.extra.get("auth_type", "")).lower()
    for name in connection.extra:
        if name in rules.ignored:
            reasons[name] = rules.ignored[name]
        elif not (rules.headers or name in rules.known or is_header(name)):
            reasons[name] = rules.others
        elif name in _AUTH and name not in AUTH_EXTRAS.get(auth_type, _AUTH):
            reasons[name] = f"auth_type {auth_type} does not use it"
    config = connection.extra.get("config_kwargs")
    if "config_kwargs" in rules.used and isinstance(config, Mapping):
        reasons |= {f"config_kwargs.{name}": _CLIENT for name in config if name in AWS_CONFIG_IGNORED}
    return reasons


def header_extras(connection: Connection) -> Iterator[tuple[str, str]]:
    """The extras that are sent as headers by themselves.

    Raises:
        ValueError: an extra would be one, and is not a string. The message quotes neither its name
            nor its value.
    """
    extra, rules = connection.extra, rules_of(connection)
    for position, (name, value) in enumerate(extra.items(), 1):
        if name in rules.known or value is None or not (rules.headers or is_header(name)):
            continue
        if name in _AUTH and "auth_type" in extra:  # meant for waitd
            continue
        if not isinstance(value, str):
            # In a broken URI, the name may be a piece of a secret.
            raise ValueError(  # noqa: TRY004 - bad data, not a bad call
                f"field {position} of the extra is sent as a header, so it must be a string"
            )
        yield name, value


def is_header(name: str) -> bool:
    """Whether an extra's name can only be a header's."""
    return "-" in name or name.lower() in {"authorization", "accept", "cookie"}


def _is_set(value: Any) -> bool:
    return bool(value) and value not in _DEFAULTS
