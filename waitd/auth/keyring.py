"""The API keys of a daemon, in memory: those of its store, and those of the keys file, which is read again when it changes.

The store is this daemon's alone, so what is in memory is what is on disk, and a request costs no look-up.
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

#: How often the keys file is looked at, in seconds.
LOOK_SECONDS = 5.0
#: How exactly it is kept when a key was last used, in seconds: that it is used costs no write more often than this.
USED_STEP = 3600.0
_MAX_FILE = 4 * 1024 * 1024
_UNKNOWN = "the API key is not known, or its secret is wrong"


class ApiKeyring:
    """Knows the keys. `open` it before use, and keep it running."""

    def __init__(
        self, store: KeyStore, *, file: Path | None, retention: float, now: Callable[[], float]
    ) -> None:
        """`retention`: for how many seconds keys that are revoked or expired are still listed; `now` gives Unix seconds."""
        self._store = store
        self._path = file
        self._retention = retention
        self._now = now
        self._stored: dict[str, ApiKey] = {}
        self._filed: dict[str, ApiKey] = {}
        self._principals: dict[str, Principal] = {}
        self._used: dict[str, float] = {}
        self._text: bytes | None = None
        self._trouble = ""
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Reads store and file.

        Raises:
            WaitdError: the file cannot be read, or is wrong.
        """
        self._stored = {key.id: key for key in await self._store.api_keys()}
        if self._path is not None:
            try:
                self._take(await asyncio.to_thread(_read, self._path))
            except (OSError, ValueError) as error:
                raise WaitdError(self._complaint(error)) from None

    def holds_any(self) -> bool:
        """Whether there is a key that opens the door now."""
        return any(key.why_not(self._now()) is None for key in self.every())

    # ---------------------------------------------------------------- the door

    def principal(self, token: str) -> Principal:
        """Whoever comes with this key.

        Raises:
            Unauthenticated: it is none, or not good any more.
        """
        given = parse_key(token)
        if given is None:
            raise Unauthenticated("malformed_key", "an API key has the form waitd_<id>_<secret>")
        key = self._filed.get(given.id) or self._stored.get(given.id)
        if key is None:
            raise Unauthenticated("unknown_key", _UNKNOWN)
        if not key.proven_by(given):
            raise Unauthenticated("wrong_secret", _UNKNOWN)
        now = self._now()
        why_not = key.why_not(now)
        if why_not is not None:
            raise Unauthenticated(f"{why_not}_key", f"the API key {key.id} is {why_not}")
        self._used[key.id] = now
        principal = self._principals.get(key.id)
        if principal is None:
            principal = self._principals[key.id] = key.principal
        return principal

    # ---------------------------------------------------------------- for admins

    def every(self) -> Sequence[ApiKey]:
        """See `Keyring`."""
        known = {**self._stored, **self._filed}
        shown = [replace(key, used_at=self._used.get(key.id, key.used_at)) for key in known.values()]
        return sorted(shown, key=lambda key: (key.created_at, key.id), reverse=True)

    async def create(self, new: NewKey, by: Caller) -> CreatedKey:
        """See `Keyring`."""
        async with self._turn:
            if len(self._stored) + len(self._filed) >= MAX_KEYS:
                raise Conflict(f"there are {MAX_KEYS} keys already; revoked ones go after the retention")
            made = made_key(new, self._now(), by.principal.name)
            told = build_audit_entry(by, made.key.created_at, "create_key", made.key.id)
            await self._store.save_api_keys([made.key], told)
            self._stored[made.key.id] = made.key
            return made

    async def revoke(self, key_id: str, by: Caller) -> ApiKey:
        """See `Keyring`."""
        async with self._turn:
            if key_id in self._filed:
                raise Conflict(f"the key {key_id} stands in the keys file; remove its line there")
            key = self._stored.get(key_id)
            if key is None:
                raise NotFound(f"there is no key {key_id}")
            if key.revoked_at is not None:
                raise Conflict(f"the key {key_id} was revoked before")
            now = self._now()
            revoked = replace(key, revoked_at=now, used_at=self._used.get(key_id, key.used_at))
            await self._store.save_api_keys([revoked], build_audit_entry(by, now, "revoke_key", key_id))
            self._stored[key_id] = revoked
            return revoked

    # ---------------------------------------------------------------- the slow, regular work

    async def run(self) -> None:
        """Looks after file and store until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.refresh()

    async def refresh(self) -> None:
        """One round: reads the file if it has changed, keeps what was used when, and forgets keys that ended long ago.

        A file that cannot be read changes nothing: those who could come in still can.
        """
        if self._path is not None:
            await self._reread(self._path)
        try:
            await self._keep_used()
            await self._forget_old()
        except StoreUnavailable as error:
            log.warning("api_keys_not_stored", error=str(error))

    async def _reread(self, path: Path) -> None:
        try:
            self._take(await asyncio.to_thread(_read, path))
        except (OSError, ValueError) as error:
            trouble = self._complaint(error)
            if trouble != self._trouble:
                log.warning("api_keys_file_not_read", error=trouble)
            self._trouble = trouble
        else:
            self._trouble = ""

    def _take(self, text: bytes) -> None:
        if text == self._text:
            return
        filed = parse_keys_file(text.decode(), self._now())
        if doubled := sorted(filed.keys() & self._stored.keys()):
            log.warning("api_keys_file_wins", keys=doubled)
        anew = self._text is not None
        self._text, self._filed = text, filed
        self._principals.clear()
        log.info("api_keys_file_read", keys=len(filed), again=anew)

    def _complaint(self, error: Exception) -> str:
        why = error.strerror if isinstance(error, OSError) else error
        return f"the keys file {self._path} (api_keys_file) cannot be used: {why}"

    async def _keep_used(self) -> None:
        async with self._turn:
            due = [
                replace(key, used_at=used)
                for key_id, used in self._used.items()
                if (key := self._stored.get(key_id)) is not None and used - (key.used_at or 0.0) >= USED_STEP
            ]
            if due:
                await self._store.save_api_keys(due)
                self._stored |= {key.id: key for key in due}

    async def _forget_old(self) -> None:
        now = self._now()
        async with self._turn:
            old = [
                key.id
                for key in self._stored.values()
                if (ended := key.ended_at(now)) is not None and ended < now - self._retention
            ]
            if old:
                await self._store.delete_api_keys(old)
                for key_id in old:
                    del self._stored[key_id]
                    self._used.pop(key_id, None)
                    self._principals.pop(key_id, None)


def made_key(new: NewKey, now: float, created_by: str) -> CreatedKey:
    """A new key and its token."""
    key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    expires_at = None if new.expires_in is None else now + new.expires_in
    key = ApiKey(key_id, secret_digest(secret), new.role, new.namespace, now, created_by, expires_at)
    return CreatedKey(key, format_key(key_id, secret))


def _read(path: Path) -> bytes:
    """Blocks."""
    with path.open("rb") as file:
        text = file.read(_MAX_FILE + 1)
    if len(text) > _MAX_FILE:
        raise ValueError(f"it has more than {_MAX_FILE} bytes")
    return text
