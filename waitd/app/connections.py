"""Builds the connections from the settings: the resolvers in their order, and the authorizer."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property
from urllib.request import getproxies_environment

import structlog
from pydantic import SecretStr

from waitd.connections.authorizer import AuthorizedConnections, Authorizer
from waitd.connections.cache import Resolver
from waitd.connections.directory import DirectoryResolver
from waitd.connections.environment import EnvironmentResolver
from waitd.connections.file import FileResolver
from waitd.connections.secrets_manager import SecretsManagerLocation, SecretsManagerResolver
from waitd.connections.token_endpoint import TokenEndpointClient
from waitd.connections.vault import VaultLocation, VaultResolver
from waitd.connections.vault_auth import AUTH_METHODS, VaultCredentials
from waitd.core.aws.signature import AwsKeys
from waitd.core.connections.aws import AwsKeySource
from waitd.core.connections.egress import EgressPolicy, is_loopback
from waitd.core.connections.proxies import DEFAULT_PROXIES, Proxies, parse_proxies
from waitd.core.errors import WaitdError
from waitd.engine.clock import SystemClock
from waitd.metrics import Instruments
from waitd.outgoing import (
    CachingResolver,
    CaresLookup,
    EgressGuard,
    IdleConnections,
    Lookup,
    ResolverLoop,
    SystemLookup,
    TlsContexts,
)
from waitd.ports import AwsKeyProvider
from waitd.settings import Settings

log = structlog.get_logger(__name__)

#: How names are looked up, by the values of the setting `name_lookups`.
LOOKUPS: Mapping[str, Callable[[], Lookup]] = {"c-ares": CaresLookup, "system": SystemLookup}


@asynccontextmanager
async def open_egress(settings: Settings, instruments: Instruments) -> AsyncIterator[EgressGuard]:
    """The egress rules of the settings, and the resolver of the daemon.

    The libraries of databases and brokers use the same resolver if the loop is a `ResolverLoop`.

    Raises:
        WaitdError: the package certifi is needed and not installed, or the URL of a proxy is
            malformed.
    """
    try:
        tls = TlsContexts(settings.tls_trust_store, settings.tls_minimum_version)
        proxies = _environment_proxies(settings)
    except ValueError as error:
        raise WaitdError(str(error)) from None
    idle = IdleConnections(settings.max_idle_connections, settings.max_idle_memory)
    resolver = CachingResolver(
        LOOKUPS[settings.name_lookups](),
        count=lambda result: instruments.name_lookups.labels(result).inc(),
    )
    private = is_loopback(settings.host)
    policy = EgressPolicy.from_settings(settings.egress_allow, settings.egress_deny, private=private)
    loop = asyncio.get_running_loop()
    if isinstance(loop, ResolverLoop):
        loop.resolver = resolver
    try:
        yield EgressGuard(policy, resolver=lambda: resolver, tls=tls, idle=idle, proxies=proxies)
    finally:
        if isinstance(loop, ResolverLoop):
            loop.resolver = None
        await resolver.close()


def _environment_proxies(settings: Settings) -> Proxies:
    try:
        return parse_proxies(getproxies_environment()) if settings.trust_env else DEFAULT_PROXIES
    except ValueError as error:
        raise ValueError(
            f"the environment's proxies: {error}; correct the variable, or set trust_env to false"
        ) from None


@asynccontextmanager
async def open_connections(
    settings: Settings, egress: EgressGuard, instruments: Instruments
) -> AsyncIterator[AuthorizedConnections]:
    """The connections of one daemon.

    Raises:
        WaitdError: a resolver cannot be set up with these settings.
    """
    keys = _EnvironmentKeys(egress)
    async with AsyncExitStack() as stack:
        tokens = await stack.enter_async_context(TokenEndpointClient(egress, instruments=instruments))
        authorizer = Authorizer(tokens, keys, now=SystemClock.monotonic)
        stack.push_async_callback(authorizer.aclose)
        try:
            resolvers = [
                await RESOLVERS[name](settings, egress, keys, stack) for name in settings.connection_resolvers
            ]
        except (ValueError, OSError) as error:
            raise WaitdError(f"the connections cannot be set up: {error}") from None
        yield AuthorizedConnections(
            [resolver for resolver in resolvers if resolver is not None],
            authorizer,
            ttl=settings.connection_cache,
            now=SystemClock.monotonic,
            instruments=instruments,
        )


class _EnvironmentKeys:
    """AWS keys from the environment and from roles.

    The library takes half a second to load, so it is loaded at the first use.
    """

    def __init__(self, egress: EgressGuard) -> None:
        self._egress = egress

    async def get(self, source: AwsKeySource) -> AwsKeys:
        """See `AwsKeyProvider`."""
        return await self._credentials.get(source)

    async def refresh(self, source: AwsKeySource) -> AwsKeys:
        """See `AwsKeyProvider`."""
        return await self._credentials.refresh(source)

    @cached_property
    def _credentials(self) -> AwsKeyProvider:
        try:
            from waitd.probes.access.aws_credentials import AwsCredentials  # noqa: PLC0415 - see above
        except ImportError:
            raise ValueError(
                "AWS keys from the environment and from roles need a library that is not installed: pip install 'waitd[s3]'"
            ) from None
        return AwsCredentials(now=SystemClock.monotonic, egress=self._egress)


async def _environment(*_: object) -> Resolver | None:
    return EnvironmentResolver(os.environ)


async def _file(settings: Settings, *_: object) -> Resolver | None:
    if settings.connections_file is None:
        return None
    resolver = FileResolver(settings.connections_file)
    await resolver.load()
    for mistake in resolver.mistakes():
        log.error("connection_unreadable", error=mistake, consequence="waits that use it get no answer")
    return resolver


async def _directory(settings: Settings, *_: object) -> Resolver | None:
    return DirectoryResolver(settings.connections_directory) if settings.connections_directory else None


async def _vault(
    settings: Settings, egress: EgressGuard, _: AwsKeyProvider, stack: AsyncExitStack
) -> Resolver | None:
    if settings.vault_url is None:
        return None
    credentials = VaultCredentials(
        token=_plain(settings.vault_token),
        role_id=settings.vault_role_id,
        secret_id=_plain(settings.vault_secret_id),
        kubernetes_role=settings.vault_kubernetes_role,
        kubernetes_jwt_path=settings.vault_kubernetes_jwt_path,
        mount_point=settings.vault_auth_mount_point,
    )
    location = VaultLocation(
        settings.vault_url,
        settings.vault_mount_point,
        settings.vault_connections_path,
        settings.vault_namespace or "",
        str(settings.vault_ca_file) if settings.vault_ca_file else None,
    )
    login = AUTH_METHODS[settings.vault_auth](credentials)
    return await stack.enter_async_context(VaultResolver(location, login, egress, now=SystemClock.monotonic))


async def _aws_secrets_manager(
    settings: Settings, egress: EgressGuard, keys: AwsKeyProvider, stack: AsyncExitStack
) -> Resolver | None:
    if settings.secrets_manager_region is None:
        return None
    location = SecretsManagerLocation(
        settings.secrets_manager_region,
        settings.secrets_manager_connections_prefix,
        settings.secrets_manager_endpoint,
        settings.secrets_manager_profile,
    )
    return await stack.enter_async_context(
        SecretsManagerResolver(location, keys, egress, now=SystemClock.now)
    )


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


#: Builds each resolver of the setting `connection_resolvers`; returns None if it is not configured.
RESOLVERS: Mapping[
    str, Callable[[Settings, EgressGuard, AwsKeyProvider, AsyncExitStack], Awaitable[Resolver | None]]
] = {
    "environment": _environment,
    "file": _file,
    "directory": _directory,
    "vault": _vault,
    "aws_secrets_manager": _aws_secrets_manager,
}
