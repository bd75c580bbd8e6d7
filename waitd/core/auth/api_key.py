"""API keys of the form `waitd_<id>_<secret>`. Only the SHA-256 of the secret is stored.

A secret is random and long (256 bits if waitd creates it), so a plain digest is sufficient: it
cannot be guessed.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest

from waitd.core.auth.principal import DEFAULT_NAMESPACE, ROLES_BY_NAME, Principal, Role, check_key_namespace

#: The most keys, those of the keys file and of the store together.
MAX_KEYS = 10_000
#: The longest time until a key expires, in seconds: a hundred years.
MAX_EXPIRES_IN = 36_525 * 86_400
#: A bearer token with this prefix is an API key and not an OIDC token.
KEY_PREFIX = "waitd_"
_ID = r"[a-z0-9]{1,32}"
_TOKEN = re.compile(rf"waitd_({_ID})_([A-Za-z0-9_-]{{32,128}})")
_HASHED = re.compile(rf"waitd_({_ID})_sha256:([0-9a-f]{{64}})")
_EXPIRES = "expires="


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """A key as a caller sent it. Its `repr` hides the secret."""

    id: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is stored. Times are Unix seconds.

    Attributes:
        digest: SHA-256 of the secret.
        created_by: the name of the principal who created it; `file` for a key of the keys file.
        used_at: when it was last used, accurate to the hour.
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
        """The caller that presents this key."""
        return Principal(f"key:{self.id}", self.role, self.namespace)

    def matches(self, presented: PresentedKey) -> bool:
        """Whether the presented secret is the right one, compared in constant time."""
        return compare_digest(secret_digest(presented.secret), self.digest)

    def invalid_reason(self, now: float) -> str | None:
        """`revoked` or `expired` if the key is invalid at `now`; None if it is valid."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and now >= self.expires_at:
            return "expired"
        return None

    def invalid_since(self, now: float) -> float | None:
        """When the key became invalid; None if it is valid at `now`."""
        if self.invalid_reason(now) is None:
            return None
        return min(at for at in (self.revoked_at, self.expires_at) if at is not None)


def parse_key(token: str) -> PresentedKey | None:
    """The id and the secret in a bearer token; None if it is not an API key."""
    matched = _TOKEN.fullmatch(token)
    return None if matched is None else PresentedKey(matched[1], matched[2])


def secret_digest(secret: str) -> bytes:
    """The SHA-256 of a secret, which is stored in its place."""
    return sha256(secret.encode()).digest()


def format_key(key_id: str, secret: str) -> str:
    """The key as its owner sends it: `waitd_<id>_<secret>`."""
    return f"waitd_{key_id}_{secret}"


def format_key_line(key: ApiKey) -> str:
    """The key's line in a keys file, without its secret."""
    expires = [] if key.expires_at is None else [_EXPIRES + _rfc3339(key.expires_at)]
    return " ".join([f"waitd_{key.id}_sha256:{key.digest.hex()}", key.role.title, key.namespace, *expires])


def parse_keys_file(text: str, read_at: float) -> dict[str, ApiKey]:
    """Parses a keys file into keys by id.

    A line is `KEY ROLE [NAMESPACE] [expires=TIME]`. KEY is a whole key or
    `waitd_<id>_sha256:<hex digest of the secret>`, TIME is RFC 3339. Empty lines and lines that
    begin with # are ignored.

    Args:
        text: the content of the file.
        read_at: when the file was read, in Unix seconds; it becomes the keys' `created_at`.

    Raises:
        ValueError: a line is invalid. The message has its number and quotes no key.
    """
    keys: dict[str, ApiKey] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            key = _parse_line(words, read_at)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if key.id in keys:
            raise ValueError(f"line {number}: the key id {key.id} is already used by another line")
        keys[key.id] = key
    if len(keys) > MAX_KEYS:
        raise ValueError(f"the file has more than {MAX_KEYS} keys")
    return keys


def _parse_line(words: Iterable[str], read_at: float) -> ApiKey:
    text, *rest = words
    if hashed := _HASHED.fullmatch(text):
        key_id, digest = hashed[1], bytes.fromhex(hashed[2])
    elif presented := parse_key(text):
        key_id, digest = presented.id, secret_digest(presented.secret)
    else:
        raise ValueError(
            "the first word must be a key: waitd_<id>_<secret of 32 to 128 letters and digits>,"
            " or waitd_<id>_sha256:<64 hexadecimal digits>"
        )
    expires_at = None
    if rest and rest[-1].startswith(_EXPIRES):
        expires_at = _parse_time(rest.pop().removeprefix(_EXPIRES))
    if not 1 <= len(rest) <= 2 or rest[0] not in ROLES_BY_NAME:
        raise ValueError(
            f"the key must be followed by its role ({', '.join(ROLES_BY_NAME)}),"
            " and optionally by its namespace and expires=TIME"
        )
    role = ROLES_BY_NAME[rest[0]]
    namespace = check_key_namespace(rest[1], role) if len(rest) == 2 else DEFAULT_NAMESPACE
    return ApiKey(key_id, digest, role, namespace, read_at, "file", expires_at)


def _parse_time(text: str) -> float:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise ValueError("expires= needs a time with a UTC offset, such as 2027-01-31T00:00:00Z")
    return time.timestamp()


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
