"""The daemon's API keys: those in its store, and those in the keys file.

All keys are held in memory, so authentication needs no query. No other process writes the store,
and the keys file is read again when it changes.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from waitd.core.auth.api_key import (
    MAX_KEYS,
    ApiKey,
    format_key,
    parse_key,
    parse_keys_file,
    secret_digest,
)
from waitd.core.auth.principal import Principal
from waitd.core.errors import Conflict, NotFound, StoreUnavailable, Unauthenticated, WaitdError
from waitd.core.waits.audit import Caller, build_audit_entry
from waitd.ports import CreatedKey, KeyStore, NewKey

log = structlog.get_logger(__name__)

#: Seconds between two checks of the keys file.
REFRESH_INTERVAL = 5.0
#: Resolution of `used_at` in seconds: a key in use is written no more often than this.
USED_AT_RESOLUTION = 3600.0
_MAX_FILE = 4 * 1024 * 1024
_INVALID_KEY = "the API key does not exist, or its secret is wrong"


class ApiKeyring:
    """Implements `Keyring`. Call `open` before use, and keep `run` running."""

    def __init__(
        self,
        store: KeyStore,
        *,
        file: Path | None,
        kept_since: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        """Configure the keyring.

        Keys that were revoked or expired before `kept_since` are deleted; it and `now` give Unix
        seconds.
        """
        self._store = store
        self._file = file
        self._kept_since = kept_since
        self._now = now
        self._store_keys: dict[str, ApiKey] = {}
        self._file_keys: dict[str, ApiKey] = {}
        self._principals: dict[str, Principal] = {}
        self._used_at: dict[str, float] = {}
        self._file_content: bytes | None = None
        self._file_error = ""
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Loads the store's and the file's keys.

        Raises:
            WaitdError: the file cannot be read or parsed.
        """
        self._store_keys = {key.id: key for key in await self._store.api_keys()}
        if self._file is not None:
            await self._load_file(self._file)

    def holds_any(self) -> bool:
        """Whether any key is valid now."""
        return any(key.invalid_reason(self._now()) is None for key in self.every())

    # ---------------------------------------------------------------- authentication

    def principal(self, token: str) -> Principal:
        """The key's principal.

        Raises:
            Unauthenticated: the key is malformed, unknown, revoked or expired.
        """
        presented = parse_key(token)
        if presented is None:
            raise Unauthenticated("malformed_key", "an API key has the form waitd_<id>_<secret>")
        key = self._file_keys.get(presented.id) or self._store_keys.get(presented.id)
        if key is None:
            raise Unauthenticated("unknown_key", _INVALID_KEY)
        if not key.matches(presented):
            raise Unauthenticated("wrong_secret", _INVALID_KEY)
        now = self._now()
        why_not = key.invalid_reason(now)
        if why_not is not None:
            raise Unauthenticated(f"{why_not}_key", f"the API key {key.id} is {why_not}")
        self._used_at[key.id] = now
        principal = self._principals.get(key.id)
        if principal is None:
            principal = self._principals[key.id] = key.principal
        return principal

    # ---------------------------------------------------------------- administration

    def every(self) -> Sequence[ApiKey]:
        """See `Keyring`."""
        merged = {**self._store_keys, **self._file_keys}
        keys = [replace(key, used_at=self._used_at.get(key.id, key.used_at)) for key in merged.values()]
        return sorted(keys, key=lambda key: (key.created_at, key.id), reverse=True)

    async def create(self, new: NewKey, by: Caller) -> CreatedKey:
        """See `Keyring`."""
        async with self._lock:
            if len(self._store_keys) + len(self._file_keys) >= MAX_KEYS:
                raise Conflict(
                    f"there are {MAX_KEYS} keys already; revoked ones are deleted after the retention"
                )
            created = generate_key(new, self._now(), by.principal.name)
            entry = build_audit_entry(by, created.key.created_at, "create_key", created.key.id)
            await self._store.save_api_keys([created.key], entry)
            self._store_keys[created.key.id] = created.key
            return created

    async def revoke(self, key_id: str, by: Caller) -> ApiKey:
        """See `Keyring`."""
        async with self._lock:
            if key_id in self._file_keys:
                raise Conflict(f"the key {key_id} is defined in the keys file; remove its line there")
            key = self._store_keys.get(key_id)
            if key is None:
                raise NotFound(f"there is no key {key_id}")
            if key.revoked_at is not None:
                raise Conflict(f"the key {key_id} is already revoked")
            now = self._now()
            revoked = replace(key, revoked_at=now, used_at=self._used_at.get(key_id, key.used_at))
            await self._store.save_api_keys([revoked], build_audit_entry(by, now, "revoke_key", key_id))
            self._store_keys[key_id] = revoked
            return revoked

    # ---------------------------------------------------------------- maintenance

    async def run(self) -> None:
        """Refreshes at intervals until it is cancelled."""
        while True:
            await asyncio.sleep(REFRESH_INTERVAL)
            await self.refresh()

    async def refresh(self) -> None:
        """Loads a changed keys file, stores when keys were used, and deletes expired keys.

        An unreadable file changes nothing: its last keys stay valid.
        """
        if self._file is not None:
            await self._reload_file(self._file)
        try:
            await self._save_used_at()
            await self._delete_expired()
        except StoreUnavailable as error:
            log.warning("api_keys_not_stored", error=str(error))

    async def _reload_file(self, path: Path) -> None:
        file_error = ""
        try:
            await self._load_file(path)
        except WaitdError as error:
            file_error = str(error)
            if file_error != self._file_error:
                log.warning("api_keys_file_not_read", error=file_error)
        self._file_error = file_error

    async def _load_file(self, path: Path) -> None:
        try:
            self._load(await asyncio.to_thread(_read, path))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise WaitdError(f"the keys file {path} (api_keys_file) cannot be used: {why}") from None

    def _load(self, content: bytes) -> None:
        if content == self._file_content:
            return
        file_keys = parse_keys_file(content.decode(), self._now())
        if duplicates := sorted(file_keys.keys() & self._store_keys.keys()):
            log.warning("api_keys_file_wins", keys=duplicates)
        reloaded = self._file_content is not None
        self._file_content, self._file_keys = content, file_keys
        self._principals.clear()
        log.info("api_keys_file_read", keys=len(file_keys), again=reloaded)

    async def _save_used_at(self) -> None:
        async with self._lock:
            due = [
                replace(key, used_at=used)
                for key_id, used in self._used_at.items()
                if (key := self._store_keys.get(key_id)) is not None
                and used - (key.used_at or 0.0) >= USED_AT_RESOLUTION
            ]
            if due:
                await self._store.save_api_keys(due)
                self._store_keys |= {key.id: key for key in due}

    async def _delete_expired(self) -> None:
        now, kept_since = self._now(), self._kept_since()
        async with self._lock:
            expired = [
                key.id
                for key in self._store_keys.values()
                if (ended := key.invalid_since(now)) is not None and ended < kept_since
            ]
            if expired:
                await self._store.delete_api_keys(expired)
                for key_id in expired:
                    del self._store_keys[key_id]
                    self._used_at.pop(key_id, None)
                    self._principals.pop(key_id, None)


def generate_key(new: NewKey, now: float, created_by: str) -> CreatedKey:
    """A new key and its token."""
    key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    expires_at = None if new.expires_in is None else now + new.expires_in
    key = ApiKey(key_id, secret_digest(secret), new.role, new.namespace, now, created_by, expires_at)
    return CreatedKey(key, format_key(key_id, secret))


def _read(path: Path) -> bytes:
    """Read the keys file; blocks."""
    with path.open("rb") as file:
        content = file.read(_MAX_FILE + 1)
    if len(content) > _MAX_FILE:
        raise ValueError(f"it is larger than {_MAX_FILE} bytes")
    return content
