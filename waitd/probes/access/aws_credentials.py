"""Looks up AWS keys that a connection does not contain: the environment's, and roles' keys.

botocore looks them up as boto3 does (environment variables, profiles, web identity, container and
instance roles) and renews them before they expire. It blocks, so it runs in a thread. Its answer is
cached for a minute.
"""

import asyncio
import os
import ssl
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from anyio import to_thread

from waitd.core.aws.signature import AwsKeys
from waitd.core.bounded_dict import BoundedDict
from waitd.core.connections.aws import AwsKeySource, botocore_tls
from waitd.core.connections.proxies import Proxies
from waitd.core.connections.sent_secrets import keys_mask
from waitd.core.errors import ConnectionUnavailable
from waitd.outgoing import EgressGuard

#: Seconds for which keys are used before botocore is asked for them again.
CACHE_SECONDS = 60.0
#: The same for keys that expire before that.
SHORT_CACHE_SECONDS = 5.0
#: Seconds between two look-ups from scratch, for keys that were refused.
REFRESH_INTERVAL = 30.0
#: The most sources whose keys are cached.
_MAX_SOURCES = 1000
_ROLE_SESSION = "waitd"


class _CachedKeys(NamedTuple):
    keys: AwsKeys
    #: When they expire from the cache, and when their source was looked up from scratch: monotonic
    #: seconds.
    expires_at: float
    looked_up_at: float
    #: botocore's credentials object, which has no types.
    credentials: Any


class AwsCredentials:
    """Looks up and caches the keys of key sources."""

    def __init__(self, *, now: Callable[[], float], egress: EgressGuard | None = None) -> None:
        """Creates an empty cache.

        Args:
            now: a monotonic clock in seconds.
            egress: has the proxies of the environment and the authorities to trust.
        """
        self._now = now
        self._egress = egress or EgressGuard()
        self._cache: BoundedDict[AwsKeySource, _CachedKeys] = BoundedDict(_MAX_SOURCES)
        self._lock = asyncio.Lock()

    async def get(self, source: AwsKeySource) -> AwsKeys:
        """Returns the keys, cached or looked up.

        Raises:
            ConnectionUnavailable: the service that issues them does not answer.
            ValueError: there are none, or they are refused.
        """
        if source.static is not None and source.role is None:
            return source.static
        cached = self._cache.get(source)
        if cached is not None and self._now() < cached.expires_at:
            return cached.keys
        async with self._lock:
            cached = self._cache.get(source)
            if cached is not None and self._now() < cached.expires_at:
                return cached.keys
            return await self._look_up(source, cached)

    async def refresh(self, source: AwsKeySource) -> AwsKeys:
        """Returns the keys, looked up from scratch at most once in 30 s. Raises as `get`."""
        async with self._lock:
            cached = self._cache.get(source)
            if cached is not None and self._now() - cached.looked_up_at >= REFRESH_INTERVAL:
                del self._cache[source]
        return await self.get(source)

    async def _look_up(self, source: AwsKeySource, cached: _CachedKeys | None) -> AwsKeys:
        credentials, keys = await to_thread.run_sync(
            _freeze_credentials, source, cached.credentials if cached else None, self._egress
        )
        now = self._now()
        self._cache[source] = _CachedKeys(
            keys, now + _lifetime(credentials), cached.looked_up_at if cached else now, credentials
        )
        return keys


class EnvironmentDefaults(NamedTuple):
    """The region and endpoint that the environment sets, or None."""

    region: str | None
    endpoint: str | None


async def environment_defaults(profile: str | None, service: str = "S3") -> EnvironmentDefaults:
    """Returns the region and endpoint as boto3 takes them from the environment.

    Args:
        profile: an AWS profile, or None.
        service: the id of the service as in `AWS_ENDPOINT_URL_<ID>`.

    Raises:
        ValueError: the profile does not exist.
        ImportError: botocore is not installed.
    """
    return await to_thread.run_sync(_environment_defaults, profile, service)


# botocore is large. It is imported in a thread by the first wait that needs it, not when the daemon
# starts.


def _environment_defaults(profile: str | None, service: str) -> EnvironmentDefaults:
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    from botocore.session import Session  # noqa: PLC0415

    try:
        region = Session(profile=profile).get_config_variable("region")
    except BotoCoreError:
        raise ValueError("the environment does not have the AWS profile that it names") from None
    endpoint = os.environ.get(f"AWS_ENDPOINT_URL_{service}") or os.environ.get("AWS_ENDPOINT_URL")
    return EnvironmentDefaults(region or None, endpoint or None)


async def variant_endpoint(service: str, region: str, fips: bool, dual_stack: bool) -> str:
    """Returns AWS's own endpoint of a service for FIPS 140, for IPv6, or both.

    Args:
        service: boto3's name of the service.
        region: its region.
        fips: the endpoint with validated cryptography.
        dual_stack: the endpoint with an IPv6 address.

    Raises:
        ValueError: the service has no such endpoint there.
        ImportError: botocore is not installed.
    """
    return await to_thread.run_sync(_variant_endpoint, service, region, fips, dual_stack)


@lru_cache(maxsize=256)
def _variant_endpoint(service: str, region: str, fips: bool, dual_stack: bool) -> str:
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    from botocore.session import Session  # noqa: PLC0415

    config = Config(
        use_fips_endpoint=fips, use_dualstack_endpoint=dual_stack, ignore_configured_endpoint_urls=True
    )
    keys = {"aws_access_key_id": "unused", "aws_secret_access_key": "unused"}
    try:
        client = Session().create_client(service, region_name=region, config=config, **keys)
    except BotoCoreError as error:
        raise ValueError(f"AWS has no such endpoint of {service}: {type(error).__name__}") from None
    return str(client.meta.endpoint_url)


def _freeze_credentials(
    source: AwsKeySource, credentials: Any | None, egress: EgressGuard
) -> tuple[Any, AwsKeys]:
    """Returns botocore's credentials of a source, created if None, and their present keys."""
    from botocore.exceptions import (  # noqa: PLC0415
        BotoCoreError,
        ClientError,
        ConnectionError,  # noqa: A004 - botocore's own, not an OSError
        CredentialRetrievalError,
        HTTPClientError,
        MetadataRetrievalError,
    )

    try:
        credentials = credentials or _credentials(source, egress)
        frozen = credentials.get_frozen_credentials()
    except (ConnectionError, HTTPClientError, CredentialRetrievalError, MetadataRetrievalError) as error:
        raise ConnectionUnavailable(type(error).__name__) from None
    except ClientError as error:
        code = keys_mask(source.static, source.proxies, egress.proxies).mask_text(
            error.response["Error"]["Code"]
        )
        raise ValueError(f"the role cannot be assumed: {code}") from None
    except BotoCoreError as error:  # its message may quote a secret
        raise ValueError(f"botocore cannot use its credentials: {type(error).__name__}") from None
    return credentials, AwsKeys(frozen.access_key, frozen.secret_key, frozen.token or None)


def _lifetime(credentials: Any) -> float:
    """For how long the present keys of botocore's credentials are cached, in seconds."""
    expires_soon = getattr(credentials, "refresh_needed", None)  # only of those that botocore renews
    if expires_soon is not None and expires_soon(refresh_in=CACHE_SECONDS + SHORT_CACHE_SECONDS):
        return SHORT_CACHE_SECONDS
    return CACHE_SECONDS


def _proxies(own: Proxies, environment: Proxies) -> dict[str, str] | None:
    """The proxies of a connection as botocore takes them; None: botocore reads the environment."""
    urls = dict(own.urls)
    by_scheme = {scheme: urls.get(scheme, urls.get("all")) for scheme in ("http", "https")}
    proxies = {scheme: url for scheme, url in by_scheme.items() if url}
    return proxies if proxies or not (own.trust_env and environment.urls) else None


def _session(profile: str | None, minimum: ssl.TLSVersion) -> Any:
    """A session whose clients speak no older TLS.

    botocore has no public way: no option names a version or takes an SSL context, and the class of
    a client's HTTP session is the default of an argument that its own code never passes.
    """
    from botocore.session import Session  # noqa: PLC0415

    class TlsSession(Session):  # type: ignore[misc]  # botocore has no types
        def create_client(self, *args: Any, **options: Any) -> Any:
            client = super().create_client(*args, **options)
            http = client._endpoint.http_session  # noqa: SLF001 - see above
            new_context = http._get_ssl_context  # noqa: SLF001

            def get_ssl_context() -> ssl.SSLContext:
                context: ssl.SSLContext = new_context()
                context.minimum_version = minimum
                return context

            http._get_ssl_context = get_ssl_context  # noqa: SLF001 - for the pools of proxies
            http._manager.connection_pool_kw["ssl_context"] = get_ssl_context()  # noqa: SLF001
            return client

    return TlsSession(profile=profile)


def _credentials(source: AwsKeySource, egress: EgressGuard) -> Any:
    from botocore.config import Config  # noqa: PLC0415
    from botocore.credentials import (  # noqa: PLC0415
        AssumeRoleCredentialFetcher,
        Credentials,
        DeferredRefreshableCredentials,
    )

    session = _session(source.profile, egress.tls.minimum_version)
    session.set_default_client_config(
        Config(
            retries={"total_max_attempts": 1},
            connect_timeout=5,
            read_timeout=5,
            tcp_keepalive=True,
            proxies=_proxies(source.proxies, egress.proxies),
        )
    )
    if session.get_config_variable("ca_bundle") is None:  # none in the environment or the profile
        session.set_config_variable("ca_bundle", egress.tls.ca_file)
    static, role = source.static, source.role
    credentials = (
        Credentials(static.access_key_id, static.secret_access_key, static.session_token)
        if static
        else session.get_credentials()
    )
    if credentials is None:
        raise ValueError("neither the connection nor the environment has AWS credentials")
    if role is None:
        return credentials

    verify, cert = botocore_tls(role.tls)
    config = Config(client_cert=cert)

    def client(*args: Any, **options: Any) -> Any:
        options |= {"region_name": source.region, "endpoint_url": role.endpoint, "verify": verify}
        return session.create_client(*args, config=config, **options)

    extra = {"RoleSessionName": _ROLE_SESSION, **dict(role.options)}
    fetcher = AssumeRoleCredentialFetcher(client, credentials, role.arn, extra_args=extra)
    return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
