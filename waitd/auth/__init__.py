"""Authentication of API callers: API keys, and tokens of an OpenID Connect provider.

What a key, a claim or a role means is decided in `waitd.core.auth`; how a token comes out of a
request, and what an unauthenticated caller is answered, in `waitd.api`. `issuer` and `oidc` need
the extra `oidc`, so only `waitd.app` imports them, and only where an issuer is configured.
"""

from waitd.auth.authenticator import BearerAuthenticator
from waitd.auth.keyring import ApiKeyring

__all__ = ["ApiKeyring", "BearerAuthenticator"]
