"""What the API needs of those who know the principals, and what they need of the store."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from waitd.core.auth.api_key import ApiKey
from waitd.core.auth.principal import Principal, Role
from waitd.core.waits.audit import AuditEntry, Caller


class NewKey(NamedTuple):
    """A key to be made. `expires_in`: seconds from now; None: it does not expire."""

    role: Role
    namespace: str
    expires_in: float | None = None


class CreatedKey(NamedTuple):
    """A key that was made, and the token that proves it, which nobody sees again."""

    key: ApiKey
    token: str

    def __repr__(self) -> str:
        return f"CreatedKey({self.key!r})"


class Authenticator(Protocol):
    """Who a bearer token belongs to."""

    def cached_fresh(self, token: str) -> Principal | None:
        """The principal, where that needs no asking; None: `await principal(token)`.

        Raises:
            Unauthenticated: the token is not good.
        """

    async def principal(self, token: str) -> Principal:
        """The principal.

        Raises:
            Unauthenticated: the token is not good.
            Forbidden: it is, and gives no role here.
            Unavailable: nobody can say, because the issuer of such tokens does not answer.
        """


class Keyring(Protocol):
    """The API keys."""

    def every(self) -> Sequence[ApiKey]:
        """All of them, the newest first."""

    async def create(self, new: NewKey, by: Caller) -> CreatedKey:
        """Makes one. Raises Conflict: there are too many; StoreUnavailable."""

    async def revoke(self, key_id: str, by: Caller) -> ApiKey:
        """Revokes one. Raises NotFound; Conflict: it was revoked before, or stands in the keys file; StoreUnavailable."""


class KeyStore(Protocol):
    """What the keyring needs of the store."""

    async def api_keys(self) -> Sequence[ApiKey]:
        """Every stored key."""

    async def save_api_keys(self, keys: Sequence[ApiKey], change: AuditEntry | None = None) -> None:
        """Keeps these keys, new or changed, with a line of the audit in the same commit. Raises StoreUnavailable."""

    async def delete_api_keys(self, key_ids: Sequence[str]) -> None:
        """Forgets keys. Raises StoreUnavailable."""
