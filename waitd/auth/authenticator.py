"""Whose a bearer token is: an API key says so by how it begins, everything else is for the identity provider."""

from waitd.auth.keyring import ApiKeyring
from waitd.core.auth.api_key import KEY_PREFIX
from waitd.core.auth.principal import Principal
from waitd.core.errors import Unauthenticated
from waitd.ports import Authenticator


class BearerAuthenticator:
    """Implements `Authenticator`. `tokens`: None where there is no identity provider."""

    def __init__(self, keyring: ApiKeyring, tokens: Authenticator | None) -> None:
        self._keyring = keyring
        self._tokens = tokens

    def cached_fresh(self, token: str) -> Principal | None:
        """See `Authenticator`."""
        if token.startswith(KEY_PREFIX):
            return self._keyring.principal(token)
        return None if self._tokens is None else self._tokens.cached_fresh(token)

    async def principal(self, token: str) -> Principal:
        """See `Authenticator`."""
        if token.startswith(KEY_PREFIX):
            return self._keyring.principal(token)
        if self._tokens is None:
            raise Unauthenticated("unknown_token", "the token is no API key, and there is no oidc_issuer")
        return await self._tokens.principal(token)
