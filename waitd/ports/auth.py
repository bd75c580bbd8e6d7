"""What the API needs to authenticate callers, and what that needs of the store."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from waitd.core.auth.api_key import ApiKey
from waitd.core.auth.principal import Principal, Role
from waitd.core.waits.audit import AuditEntry, Caller


class NewKey(NamedTuple):
    """An API key to be created. `expires_in`: seconds from now; None: it does not expire."""

    role: Role
    namespace: str
    expires_in: float | None = None


class CreatedKey(NamedTuple):
    """A new API key with its token, which is shown only once."""

    key: ApiKey
    token: str

    def __repr__(self) -> str:
        return f"CreatedKey({self.key!r})"


class Authenticator(Protocol):
    """Finds the principal of a bearer token."""

    def cached_fresh(self, token: str) -> Principal | None:
        """The principal, if that needs no request; None: `await principal(token)`.

        Raises:
            Unauthenticated: the token is not valid.
        """

    async def principal(self, token: str) -> Principal:
        """The principal.

        Raises:
            Unauthenticated: the token is not valid.
            Forbidden: the token is valid, but grants no role here.
            Unavailable: the issuer of the token does not answer.
        """


class Keyring(Protocol):
    """Lists, creates and revokes API keys."""

    def every(self) -> Sequence[ApiKey]:
        """All keys, the newest first."""

    async def create(self, new: NewKey, by: Caller) -> CreatedKey:
        """Creates a key. Raises Conflict: there are too many; StoreUnavailable."""

    async def revoke(self, key_id: str, by: Caller) -> ApiKey:
        """Revokes a key.

        Raises:
            NotFound: there is no such key.
            Conflict: it was revoked before, or it comes from the keys file.
            StoreUnavailable: nothing was stored.
        """


class KeyStore(Protocol):
    """What the keyring needs of the store."""

    async def api_keys(self) -> Sequence[ApiKey]:
        """Every stored key."""

    async def save_api_keys(self, keys: Sequence[ApiKey], entry: AuditEntry | None = None) -> None:
        """Saves keys, new or changed, with an audit entry in the same commit.

        Raises StoreUnavailable.
        """

    async def delete_api_keys(self, key_ids: Sequence[str]) -> None:
        """Deletes keys. Raises StoreUnavailable."""
