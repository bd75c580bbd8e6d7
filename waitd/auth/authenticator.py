"""Chooses between API keys and identity provider tokens by a bearer token's prefix."""

from waitd.auth.keyring import ApiKeyring
from waitd.core.auth.api_key import KEY_PREFIX
from waitd.core.auth.principal import Principal
from waitd.core.errors import Unauthenticated
from waitd.ports import Authenticator


class BearerAuthenticator:
    """Implements `Authenticator`. `oidc`: verifies other tokens; None: there is no provider."""

    def __init__(self, keyring: ApiKeyring, oidc: Authenticator | None) -> None:
        self._keyring = keyring
        self._oidc = oidc

    def cached_fresh(self, token: str) -> Principal | None:
        """See `Authenticator`."""
        if token.startswith(KEY_PREFIX):
            return self._keyring.principal(token)
        return None if self._oidc is None else self._oidc.cached_fresh(token)

    async def principal(self, token: str) -> Principal:
        """See `Authenticator`."""
        if token.startswith(KEY_PREFIX):
            return self._keyring.principal(token)
        if self._oidc is None:
            raise Unauthenticated(
                "unknown_token", "the token is not an API key, and no oidc_issuer is configured"
            )
        return await self._oidc.principal(token)
