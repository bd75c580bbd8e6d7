"""Builds the API's guard from the settings: the keyring, the identity provider, the namespaces."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from waitd.auth import ApiKeyring, BearerAuthenticator
from waitd.core.auth.claims import ClaimRules
from waitd.core.auth.namespaces import NamespaceRules, Namespaces
from waitd.core.auth.principal import ROLES_BY_NAME
from waitd.core.connections.egress import is_loopback
from waitd.core.errors import WaitdError
from waitd.engine.clock import SystemClock
from waitd.outgoing import EgressGuard
from waitd.ports import Authenticator, KeyStore
from waitd.settings import Settings

_HOW_TO_AUTHENTICATE = (
    "Set api_keys_file (WAITD_API_KEYS_FILE) to a file of API keys, created by `waitd keys create --offline`, "
    "or oidc_issuer and oidc_audience (WAITD_OIDC_ISSUER, WAITD_OIDC_AUDIENCE) to an identity provider."
)


class ApiGuard(NamedTuple):
    """Who may use the API and what their namespaces allow.

    `authenticator` None: every caller is an admin.
    """

    keyring: ApiKeyring
    authenticator: Authenticator | None
    namespaces: Namespaces


def check_bind(settings: Settings) -> None:
    """Refuses an address that other machines can reach, unless callers authenticate.

    Raises:
        WaitdError: which settings to set.
    """
    if not is_loopback(settings.host) and not settings.authenticates:
        raise WaitdError(
            f"bind {settings.bind} is not a loopback address, and callers need not authenticate: everyone who "
            f"reaches it could submit waits and use your connections. {_HOW_TO_AUTHENTICATE} Or bind 127.0.0.1."
        )


@asynccontextmanager
async def open_guard(
    settings: Settings, store: KeyStore, egress: EgressGuard, kept_since: Callable[[], float]
) -> AsyncIterator[ApiGuard]:
    """The guard of one daemon; it deletes keys that were invalid before `kept_since`.

    Raises:
        WaitdError: the keys file cannot be read, a library is missing, or no caller could
            authenticate.
    """
    keyring = ApiKeyring(store, file=settings.api_keys_file, kept_since=kept_since, now=SystemClock.now)
    await keyring.open()
    namespaces = Namespaces(
        {
            name: NamespaceRules(entry.conn_ids, entry.sink_hosts, entry.dag_ids)
            for name, entry in settings.namespaces.items()
            if entry.has_rules
        }
    )
    async with AsyncExitStack() as stack:
        authenticator: Authenticator | None = None
        if settings.authenticates:
            tokens = await _tokens(settings, egress, stack)
            if tokens is None and not keyring.holds_any():
                raise WaitdError(
                    f"callers have to authenticate, but there is no valid API key. {_HOW_TO_AUTHENTICATE}"
                )
            authenticator = BearerAuthenticator(keyring, tokens)
        yield ApiGuard(keyring, authenticator, namespaces)


async def _tokens(settings: Settings, egress: EgressGuard, stack: AsyncExitStack) -> Authenticator | None:
    """The authenticator of the identity provider's tokens; None if there is no provider."""
    if settings.oidc_issuer is None:
        return None
    try:
        from waitd.auth.issuer import IssuerKeys  # noqa: PLC0415 - needs an extra
        from waitd.auth.oidc import OidcVerifier  # noqa: PLC0415
    except ImportError:
        raise WaitdError(
            "oidc_issuer needs a library that is not installed: pip install 'waitd[oidc]'"
        ) from None
    rules = ClaimRules(
        settings.oidc_issuer,
        frozenset(settings.oidc_audience),
        settings.oidc_role_claim,
        {name: ROLES_BY_NAME[role] for name, role in settings.oidc_roles.items()},
        settings.oidc_namespace_claim,
    )
    issuer = await stack.enter_async_context(
        IssuerKeys(settings.oidc_issuer, egress, now=SystemClock.monotonic)
    )
    return OidcVerifier(
        issuer, rules, settings.oidc_algorithms, now=SystemClock.now, monotonic=SystemClock.monotonic
    )
