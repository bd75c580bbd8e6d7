"""The parameters of the kinds that ask S3: checked at submit, then kept as a small target that shares what it can with its equals."""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from weakref import WeakValueDictionary

from pydantic import BeforeValidator, Field, StringConstraints

from waitd.core.errors import InvalidInput, Problem
from waitd.models import parsed
from waitd.probes.access.aws import AccountRef
from waitd.probes.access.aws_params import AwsParams, AwsTarget, account_problems, coalescing_key
from waitd.probes.cel.files import check_problem
from waitd.probes.s3 import patterns

#: The longest key that S3 takes, in bytes of UTF-8.
MAX_KEY = 1024
#: How many keys one wait may name.
MAX_KEYS = 100
#: How many waits with different patterns share a LIST: for more, matching takes longer than the lists that it saves.
MAX_SHARERS = 50
#: What is known of a file, in the order in which it is shown.
METADATA = ("Key", "Size", "LastModified", "ETag")

_BUCKET = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){1,253}[A-Za-z0-9]")
_URL = re.compile(r"s3[an]?://([^/]*)/*(.*)", re.IGNORECASE | re.DOTALL)
_LOOKS_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)

Metadata = Literal["Key", "Size", "LastModified", "ETag", "*"]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class S3KeyParams(AwsParams):
    """What `params` of a wait of kind `s3_key` may hold: the names of Airflow's S3KeySensor, and `check` for its `check_fn`."""

    bucket_key: Annotated[list[str], BeforeValidator(_listed), Field(min_length=1, max_length=MAX_KEYS)] = (
        Field(description="s3://bucket/key, or a key in bucket_name; a list: all must be there.")
    )
    bucket_name: str | None = Field(default=None, description="The bucket, where the keys do not name it.")
    wildcard_match: bool = Field(default=False, description="The keys are Unix wildcards.")
    use_regex: bool = Field(
        default=False, description="The keys are regular expressions (RE2), from the beginning on."
    )
    metadata_keys: Annotated[list[Metadata], Field(min_length=1)] = Field(
        default=["Size", "Key"], description="What check and the payload see of a file; * is everything."
    )
    check: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        default=None, description="CEL over files, asked for each bucket_key about what it matched."
    )


class S3KeysUnchangedParams(AwsParams):
    """What `params` of a wait of kind `s3_keys_unchanged` may hold: the names of Airflow's S3KeysUnchangedSensor."""

    bucket_name: str = Field(description="The bucket.")
    prefix: str = Field(description="What the keys begin with.")
    inactivity_period: float = Field(
        default=3600.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds for which the keys must stay the same.",
    )
    min_objects: int = Field(default=1, ge=0, description="How many keys there must be.")
    previous_objects: list[str] = Field(default_factory=list, description="The keys as they were last seen.")
    allow_delete: bool = Field(default=True, description="False: a deleted key fails the wait.")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class S3KeyOptions:
    """All of an `s3_key` wait but its keys. Equal ones are one object while one of them is alive.

    Attributes:
        mode: `key`, `wildcard` or `regex`.
        metadata: the names that are shown of a file.
    """

    namespace: str
    account_ref: AccountRef
    mode: str
    metadata: tuple[str, ...]
    check: str | None
    request_timeout: float


Addresses = tuple[tuple[str, str], ...]


class SharedListKey(str):
    """A coalescing key of waits on patterns that share their LISTs, while one of them is alive. `members`: their different patterns."""

    __slots__ = ("__weakref__", "members")
    members: tuple[Addresses, ...]


class S3KeyTarget(AwsTarget):
    """What a wait of kind `s3_key` asks: its addresses, (bucket, key or pattern) each, and how it looks at them."""

    __slots__ = ("addresses", "look")

    def __init__(self, look: S3KeyOptions, addresses: Addresses, key: str) -> None:
        super().__init__(look.account_ref, key, look.request_timeout)
        self.look = look
        self.addresses = addresses


def key_target(params: Mapping[str, Any], *, namespace: str) -> S3KeyTarget:
    """The target of a wait of kind `s3_key`.

    Raises:
        InvalidInput: with pointers relative to `params`.
    """
    given = parsed(S3KeyParams, dict(params))
    mode = "wildcard" if given.wildcard_match else "regex" if given.use_regex else "key"
    addresses: list[tuple[str, str]] = []
    problems = [*account_problems(given)]
    if given.wildcard_match and given.use_regex:
        problems.append(Problem("/use_regex", "either wildcard_match or use_regex, not both"))
    if given.bucket_name is not None:
        problems += bucket_problems("/bucket_name", given.bucket_name)
    listed = isinstance(params["bucket_key"], list)
    for index, text in enumerate(given.bucket_key):
        pointer = f"/bucket_key/{index}" if listed else "/bucket_key"
        try:
            addresses.append(_address(text, given.bucket_name, mode))
        except ValueError as error:
            problems.append(Problem(pointer, str(error)))
    wrong = None if given.check is None else check_problem(given.check)
    if wrong is not None:
        problems.append(Problem("/check", wrong))
    if problems:
        raise InvalidInput(problems)
    look = _look(given, namespace, mode)
    where = tuple(dict.fromkeys(addresses))
    if mode == "key":
        return S3KeyTarget(look, where, coalescing_key("s3_key", namespace, given, mode, where))
    lists = tuple(dict.fromkeys((bucket, pattern_of(mode, text).prefix) for bucket, text in where))
    return S3KeyTarget(look, where, _share(coalescing_key("s3_key", namespace, given, "list", lists), where))


def bucket_problems(pointer: str, bucket: str) -> Iterator[Problem]:
    """What is wrong with a bucket's name."""
    if not _BUCKET.fullmatch(bucket):
        yield Problem(pointer, "a bucket's name has 3 to 255 letters, digits and . _ -")


def check_text(text: str, most: int) -> None:
    """Refuses what cannot be a key. Raises ValueError."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("it is no Unicode text") from None
    if size > most:
        raise ValueError(f"it has {size} bytes; a key has at most {most}")


def _address(text: str, bucket: str | None, mode: str) -> tuple[str, str]:
    """Bucket and key, as Airflow's `get_s3_bucket_key` reads them, but for a `?` in a URL, which belongs to the key."""
    key = text
    if bucket is None:
        url = _URL.fullmatch(text)
        if url is None:
            raise ValueError("without bucket_name this is a full s3://bucket/key")
        bucket, key = url[1], url[2]
        if not _BUCKET.fullmatch(bucket):
            raise ValueError("what follows s3:// is no bucket's name")
    elif _LOOKS_ABSOLUTE.match(text):
        raise ValueError("if bucket_name is provided, bucket_key is a relative path, not a full s3:// url")
    if not key:
        raise ValueError("the key is missing")
    check_text(key, MAX_KEY)
    if mode != "key":
        pattern_of(mode, key)
    return sys.intern(bucket), key


def pattern_of(mode: str, text: str) -> patterns.Pattern:
    """The compiled pattern of an address. Raises ValueError where there is none."""
    return patterns.wildcard(text) if mode == "wildcard" else patterns.regex(text)


def _look(given: S3KeyParams, namespace: str, mode: str) -> S3KeyOptions:
    wanted = METADATA if "*" in given.metadata_keys else tuple(dict.fromkeys(given.metadata_keys))
    key = (namespace, given.account_ref, mode, wanted, given.check, given.request_timeout)
    look = _looks.get(key)
    if look is None:
        look = _looks[key] = S3KeyOptions(*key)
    return look


_looks: WeakValueDictionary[tuple[Any, ...], S3KeyOptions] = WeakValueDictionary()


def _share(key: str, where: Addresses) -> SharedListKey:
    """The coalescing key of waits that need the same LISTs; those with more different patterns than share them well have several."""
    share = _shares.get(key)
    if share is None or (len(share.members) >= MAX_SHARERS and where not in share.members):
        full = 0 if share is None else int(share.rpartition("/")[2]) + 1
        share = _shares[key] = SharedListKey(f"{key}/{full}")
        share.members = ()
    if where not in share.members:
        share.members += (where,)
    return share


_shares: WeakValueDictionary[str, SharedListKey] = WeakValueDictionary()
