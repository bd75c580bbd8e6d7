"""Who comes in: API keys, and the tokens of an identity provider.

    keyring        API keys: those of the store, those of the keys file
    issuer         the identity provider's public keys, fetched and cached
    oidc           its tokens, verified and cached
    authenticator  which of both a bearer token is for

What a principal may do is `waitd.core.auth.principal`'s, what a key or a claim means `waitd.core.auth.api_key`'s and `waitd.core.auth.claims`'; where
tokens come from a request, and what is answered, is `waitd.api`'s. `issuer` and `oidc` need the extra `oidc`.
"""

from waitd.auth.authenticator import BearerAuthenticator
from waitd.auth.keyring import ApiKeyring

__all__ = ["ApiKeyring", "BearerAuthenticator"]
