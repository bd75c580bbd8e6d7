"""Checks the parameters of the kinds of S3, and makes small targets of them with shared parts."""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from weakref import WeakValueDictionary

from pydantic import AfterValidator, BeforeValidator, Field

from waitd.core.errors import InvalidInput, Problem
from waitd.models import parse_model
from waitd.models.fields import null_means
from waitd.probes.access.aws import AccountRef
from waitd.probes.access.aws_params import AwsParams, AwsTarget, account_problems, coalescing_key
from waitd.probes.cel.files import FILES_ENV
from waitd.probes.s3 import patterns
from waitd.probes.s3.metadata import METADATA, MetadataKeys, metadata_keys

#: The longest key in S3, in bytes of UTF-8.
MAX_KEY = 1024
#: The most keys that one wait may name.
MAX_KEYS = 100
#: The most waits with different patterns that share a LIST: matching more costs more than it saves.
MAX_SHARERS = 50

_BUCKET = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){1,253}[A-Za-z0-9]")
_URL = re.compile(r"s3[an]?://([^/]*)/*(.*)", re.IGNORECASE | re.DOTALL)
_LOOKS_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def _metadata_name(text: str) -> str:
    if text != "*" and text not in METADATA:
        raise ValueError(f"S3 has no such field; known are *, {', '.join(METADATA)}")
    return text


Metadata = Annotated[str, AfterValidator(_metadata_name)]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class S3KeyParams(AwsParams):
    """The `params` of kind `s3_key`, named as in Airflow's S3KeySensor.

    `check` is its `check_fn`.
    """

    bucket_key: Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1, max_length=MAX_KEYS)] = (
        Field(description="s3://bucket/key, or a key in bucket_name; a list: all must exist.")
    )
    bucket_name: str | None = Field(default=None, description="The bucket, if the keys do not name it.")
    wildcard_match: bool = Field(default=False, description="The keys are Unix wildcards.")
    use_regex: bool = Field(
        default=False, description="The keys are regular expressions (RE2), matched at the beginning."
    )
    metadata_keys: Annotated[list[Metadata], Field(min_length=1), null_means(["Size", "Key"])] = Field(
        default=["Size", "Key"],
        description="The fields of HEAD and LIST, or Tags, in check and in the payload; * is all.",
    )
    check: Annotated[str | None, BeforeValidator(lambda check: check or None)] = Field(
        default=None, description="CEL over files, evaluated on the matches of each bucket_key."
    )


class S3KeysUnchangedParams(AwsParams):
    """The `params` of kind `s3_keys_unchanged`, named as in Airflow's S3KeysUnchangedSensor."""

    bucket_name: str = Field(description="The bucket.")
    prefix: str = Field(description="The prefix of the keys.")
    inactivity_period: float = Field(
        default=3600.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds for which the keys must stay the same.",
    )
    min_objects: int = Field(default=1, ge=0, description="The least number of keys.")
    previous_objects: Annotated[list[str], null_means([])] = Field(
        default_factory=list, description="The keys that existed before the wait."
    )
    allow_delete: bool = Field(default=True, description="False: a deleted key fails the wait.")
    watch: Literal["keys", "etag"] = Field(
        default="keys",
        description="etag: a key that is written again with another ETag or size is a change, too.",
    )


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class S3KeyOptions:
    """The parameters of an `s3_key` wait other than its keys.

    Waits with equal ones share one object.

    Attributes:
        mode: `key`, `wildcard` or `regex`.
        metadata: the metadata to show.
    """

    namespace: str
    account_ref: AccountRef
    mode: str
    metadata: MetadataKeys
    check: str | None
    request_timeout: float


#: Buckets, each with a key or a pattern.
Addresses = tuple[tuple[str, str], ...]


class SharedListKey(str):
    """The coalescing key of waits whose patterns share LISTs.

    `members` are their different patterns.
    """

    __slots__ = ("__weakref__", "members")
    members: tuple[Addresses, ...]


class S3KeyTarget(AwsTarget):
    """The keys or patterns of a wait of kind `s3_key`, and its other parameters."""

    __slots__ = ("addresses", "options")

    def __init__(self, options: S3KeyOptions, addresses: Addresses, key: str) -> None:
        super().__init__(options.account_ref, key, options.request_timeout)
        self.options = options
        self.addresses = addresses


def key_target(params: Mapping[str, Any], *, namespace: str) -> S3KeyTarget:
    """Returns the target of a wait of kind `s3_key`.

    Raises:
        InvalidInput: with pointers relative to `params`.
    """
    key_params = parse_model(S3KeyParams, dict(params))
    mode = "wildcard" if key_params.wildcard_match else "regex" if key_params.use_regex else "key"
    addresses: list[tuple[str, str]] = []
    problems = [*account_problems(key_params)]
    if key_params.wildcard_match and key_params.use_regex:
        problems.append(
            Problem("/use_regex", "wildcard_match and use_regex exclude each other; set one of them")
        )
    if key_params.bucket_name is not None:
        problems += bucket_problems("/bucket_name", key_params.bucket_name)
    is_list = isinstance(params["bucket_key"], list)
    for index, text in enumerate(key_params.bucket_key):
        try:
            addresses.append(_parse_address(text, key_params.bucket_name, mode))
        except ValueError as error:
            pointer = f"/bucket_key/{index}" if is_list else "/bucket_key"
            problems.append(Problem(pointer, str(error)))
    detail = None if key_params.check is None else FILES_ENV.problem(key_params.check, "BOOL")
    if detail is not None:
        problems.append(Problem("/check", detail))
    if problems:
        raise InvalidInput(problems)
    options = _shared_options(key_params, namespace, mode)
    unique, requests = tuple(dict.fromkeys(addresses)), options.metadata.requests
    if mode == "key":
        key = coalescing_key("s3_key", namespace, key_params, mode, unique, requests)
        return S3KeyTarget(options, unique, key)
    lists = tuple(dict.fromkeys((bucket, compile_pattern(mode, text).prefix) for bucket, text in unique))
    key = coalescing_key("s3_key", namespace, key_params, "list", lists, requests)
    return S3KeyTarget(options, unique, _shared_list_key(key, unique))


def bucket_problems(pointer: str, bucket: str) -> Iterator[Problem]:
    """Yields what is wrong with the name of a bucket."""
    if not _BUCKET.fullmatch(bucket):
        yield Problem(pointer, "the name of a bucket has 3 to 255 letters, digits and . _ -")


def check_key(text: str) -> None:
    """Raises ValueError if a text cannot be a key."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("the key is not valid Unicode") from None
    if size > MAX_KEY:
        raise ValueError(f"the key has {size} bytes; at most {MAX_KEY} are allowed")


def _parse_address(text: str, bucket: str | None, mode: str) -> tuple[str, str]:
    """Returns bucket and key as Airflow's `get_s3_bucket_key`, but a key may contain a `?`."""
    key = text
    if bucket is None:
        url = _URL.fullmatch(text)
        if url is None:
            raise ValueError("without bucket_name, bucket_key must be a full URL: s3://bucket/key")
        bucket, key = url[1], url[2]
        if not _BUCKET.fullmatch(bucket):
            raise ValueError("the bucket in the URL is not a valid name: 3 to 255 letters, digits and . _ -")
    elif _LOOKS_ABSOLUTE.match(text):
        raise ValueError("with bucket_name, bucket_key must be a key, not a full s3:// URL")
    if not key:
        raise ValueError("the key is missing; write s3://bucket/key")
    check_key(key)
    if mode != "key":
        compile_pattern(mode, key)
    return sys.intern(bucket), key


def compile_pattern(mode: str, text: str) -> patterns.Pattern:
    """Compiles the pattern of an address. Raises ValueError if it is not valid."""
    return patterns.wildcard(text) if mode == "wildcard" else patterns.regex(text)


def _shared_options(params: S3KeyParams, namespace: str, mode: str) -> S3KeyOptions:
    metadata = metadata_keys(params.metadata_keys, params.check)
    key = (namespace, params.account_ref, mode, metadata, params.check, params.request_timeout)
    options = _options.get(key)
    if options is None:
        options = _options[key] = S3KeyOptions(*key)
    return options


_options: WeakValueDictionary[tuple[Any, ...], S3KeyOptions] = WeakValueDictionary()


def _shared_list_key(key: str, addresses: Addresses) -> SharedListKey:
    """The key of waits that need the same LISTs, for up to `MAX_SHARERS` different patterns."""
    shared = _shared_keys.get(key)
    if shared is None or (len(shared.members) >= MAX_SHARERS and addresses not in shared.members):
        number = 0 if shared is None else int(shared.rpartition("/")[2]) + 1
        shared = _shared_keys[key] = SharedListKey(f"{key}/{number}")
        shared.members = ()
    if addresses not in shared.members:
        shared.members += (addresses,)
    return shared


_shared_keys: WeakValueDictionary[str, SharedListKey] = WeakValueDictionary()
