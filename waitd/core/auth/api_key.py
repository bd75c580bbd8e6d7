"""API keys: `waitd_<id>_<secret>`. The id finds the key, the secret's SHA-256 proves it; the secret itself is kept nowhere.

A secret is random and long (256 bits where waitd makes it), so a plain digest is enough: there is nothing to guess.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from typing import NamedTuple

from waitd.core.auth.principal import DEFAULT_NAMESPACE, ROLES_BY_NAME, Principal, Role, check_key_namespace

#: How many keys there may be, file and store together.
MAX_KEYS = 10_000
#: What begins so is an API key, and no token of anybody else's.
KEY_PREFIX = "waitd_"
_ID = r"[a-z0-9]{1,32}"
_TOKEN = re.compile(rf"waitd_({_ID})_([A-Za-z0-9_-]{{32,128}})")
_HASHED = re.compile(rf"waitd_({_ID})_sha256:([0-9a-f]{{64}})")
_EXPIRES = "expires="


class PresentedKey(NamedTuple):
    """A key as somebody sent it. Its text never tells the secret."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"Given(id={self.id!r})"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept. Times are Unix seconds.

    Attributes:
        digest: SHA-256 of the secret.
        created_by: the name of the principal who made it; `file` for one that stands in a file.
        used_at: when it was last used, to the hour.
    """

    id: str
    digest: bytes = field(repr=False)
    role: Role
    namespace: str
    created_at: float
    created_by: str
    expires_at: float | None = None
    revoked_at: float | None = None
    used_at: float | None = None

    @property
    def principal(self) -> Principal:
        """Whoever comes with it."""
        return Principal(f"key:{self.id}", self.role, self.namespace)

    def proven_by(self, given: PresentedKey) -> bool:
        """Whether the secret is the right one; takes the same time whatever is wrong with it."""
        return compare_digest(secret_digest(given.secret), self.digest)

    def why_not(self, now: float) -> str | None:
        """Why it does not open the door at `now`, in a word; None: it does."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and now >= self.expires_at:
            return "expired"
        return None

    def ended_at(self, now: float) -> float | None:
        """When it ceased to open the door; None: it has not."""
        if self.why_not(now) is None:
            return None
        return min(at for at in (self.revoked_at, self.expires_at) if at is not None)


def parse_key(token: str) -> PresentedKey | None:
    """The id and the secret of a key; None where the token is none."""
    found = _TOKEN.fullmatch(token)
    return None if found is None else PresentedKey(found[1], found[2])


def secret_digest(secret: str) -> bytes:
    """What is kept of a secret."""
    return sha256(secret.encode()).digest()


def format_key(key_id: str, secret: str) -> str:
    """The key as its owner sends it."""
    return f"waitd_{key_id}_{secret}"


def format_key_line(key: ApiKey) -> str:
    """The key's line in a keys file, without its secret."""
    expires = [] if key.expires_at is None else [_EXPIRES + _rfc3339(key.expires_at)]
    return " ".join([f"waitd_{key.id}_sha256:{key.digest.hex()}", key.role.title, key.namespace, *expires])


def parse_keys_file(text: str, read_at: float) -> dict[str, ApiKey]:
    """The keys of a keys file by their ids, read at `read_at`.

    A line is `KEY ROLE [NAMESPACE] [expires=TIME]`, where KEY is a whole key or `waitd_<id>_sha256:<hex digest of the secret>`, and TIME is
    RFC 3339. Empty lines and those that begin with # say nothing.

    Raises:
        ValueError: a line is wrong; the message names it by its number and quotes no key.
    """
    keys: dict[str, ApiKey] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            key = _key_in(words, read_at)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if key.id in keys:
            raise ValueError(f"line {number}: another line has a key with the id {key.id}")
        keys[key.id] = key
    if len(keys) > MAX_KEYS:
        raise ValueError(f"more than {MAX_KEYS} keys")
    return keys


def _key_in(words: Iterable[str], read_at: float) -> ApiKey:
    text, *rest = words
    if hashed := _HASHED.fullmatch(text):
        key_id, digest = hashed[1], bytes.fromhex(hashed[2])
    elif given := parse_key(text):
        key_id, digest = given.id, secret_digest(given.secret)
    else:
        raise ValueError(
            "the first word is no key: waitd_<id>_<secret of 32 to 128 letters and digits>,"
            " or waitd_<id>_sha256:<64 hexadecimal digits>"
        )
    expires_at = None
    if rest and rest[-1].startswith(_EXPIRES):
        expires_at = _time_in(rest.pop().removeprefix(_EXPIRES))
    if not 1 <= len(rest) <= 2 or rest[0] not in ROLES_BY_NAME:
        raise ValueError(
            f"after the key come its role ({', '.join(ROLES_BY_NAME)}), its namespace and expires=TIME"
        )
    role = ROLES_BY_NAME[rest[0]]
    namespace = check_key_namespace(rest[1], role) if len(rest) == 2 else DEFAULT_NAMESPACE
    return ApiKey(key_id, digest, role, namespace, read_at, "file", expires_at)


def _time_in(text: str) -> float:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise ValueError("expires= takes a time with its offset, such as 2027-01-31T00:00:00Z")
    return time.timestamp()


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
