"""A fast path for `params` of the kind `http` as JSON text.

Many waits' parameters differ only in a job's name, the last segment of the endpoint. The text
without that name is the key of a cache, so that everything else is parsed and checked once. All
other parameters, such as those with `/jobs/42/status`, fall back to `HttpProbe.parse`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import orjson
from msgspec import Struct

from waitd.core.bounded_dict import BoundedDict
from waitd.core.connections.connection import Connection, join_url
from waitd.core.repeated_fields import repeated_fields
from waitd.probes.http.params import (
    PLAIN_NAME,
    HttpTarget,
    SharedParams,
    encode_endpoint,
    endpoint_origin,
    parse_shared,
)

#: How many texts are cached.
MAX_CACHED = 1024
#: The longest text that is cached, in bytes.
MAX_LENGTH = 1024
#: How many keys are noted that occurred once: a text is cached when its key occurs again.
MAX_SEEN = 4096
#: The most objects and arrays in a cached text; `HttpProbe.parse` limits how deeply they are
#: nested.
MAX_CONTAINERS = 32


class _EndpointOnly(Struct):
    """The only field that is decoded."""

    endpoint: str = ""


_decode = msgspec.json.Decoder(_EndpointOnly).decode

#: The text without the job's name, and the namespace. A plain tuple costs a fifth of a NamedTuple.
ParamsKey = tuple[bytes, str]


class CachedFolder(NamedTuple):
    """Parsed parameters whose endpoint lacks the job's name.

    Attributes:
        origin: as `HttpTarget.origin`.
        endpoint: the percent-encoded endpoint, up to the name.
        seed: a hash of the request; the name is added to a copy.
        params: the parameters, with the endpoint up to the name.
    """

    shared: SharedParams
    origin: str | None
    endpoint: str
    seed: Any
    params: dict[str, Any]


class ParamsReader:
    """Parses such texts. Its only state is the cache."""

    def __init__(
        self,
        secret_headers: Sequence[str],
        cached_any: Callable[[str | None], Connection | None],
        admit: Callable[[str], None],
    ) -> None:
        """Creates a reader.

        Args:
            secret_headers: patterns of header names that a wait may not carry.
            cached_any: finds a cached connection.
            admit: raises InvalidInput when the egress rules refuse an origin. It is called once for
                each cached text; each poke checks its origin again.
        """
        self._secret_headers = tuple(secret_headers)
        self._cached_any = cached_any
        self._admit = admit
        self._folders: BoundedDict[ParamsKey, CachedFolder] = BoundedDict(MAX_CACHED)
        #: Hashes of the keys that occurred once.
        self._seen: set[int] = set()

    def read(self, params: bytes, *, namespace: str) -> tuple[HttpTarget, Mapping[str, Any]] | None:
        """Returns the target and the parameters; None when `HttpProbe.parse` must decide.

        Raises:
            InvalidInput: a parameter is wrong.
            ValueError: the text or the endpoint is malformed.
        """
        endpoint = _decode(params).endpoint
        name = endpoint.rpartition("/")[2]
        if len(params) > MAX_LENGTH or b"\\" in params or not PLAIN_NAME.fullmatch(name):
            return None
        end = name.encode() + b'"'
        before, _, after = params.partition(end)
        if end in after:  # two values end with the name, and the first one may be the other one
            return None
        folder = self._find((before + b'"' + after, namespace))
        if folder is None:
            return None
        shared, conn_id = folder.shared, folder.shared.template.conn_id
        if conn_id is not None and (connection := self._cached_any(conn_id)) is not None:
            join_url(connection.base_url(), endpoint)
        seed = folder.seed.copy()
        seed.update(name.encode())
        target = shared.target(folder.endpoint + name, folder.origin, seed.hexdigest())
        return target, {**folder.params, "endpoint": endpoint}

    def _find(self, key: ParamsKey) -> CachedFolder | None:
        """Finds or parses a folder; None for a key that occurs for the first time."""
        folder = self._folders.get(key)
        if folder is not None:
            return folder
        if hash(key) not in self._seen:
            if len(self._seen) >= MAX_SEEN:
                self._seen.clear()
            self._seen.add(hash(key))
            return None
        text, namespace = key
        if text.count(b"{") + text.count(b"[") > MAX_CONTAINERS or any(repeated_fields(text)):
            return None
        folder = self._folders[key] = self._parse(text, namespace)
        return folder

    def _parse(self, text: bytes, namespace: str) -> CachedFolder:
        params = orjson.loads(text)
        folder = params["endpoint"]
        others = {name: value for name, value in params.items() if name != "endpoint"}
        shared = parse_shared(orjson.dumps(others), namespace, self._secret_headers)
        origin = endpoint_origin(folder, shared.template.conn_id, None)
        if origin is not None and shared.template.conn_id is None:
            self._admit(origin)
        endpoint = encode_endpoint(folder)
        seed = shared.seed.copy()
        seed.update(endpoint.encode())
        return CachedFolder(shared, origin, endpoint, seed, params)
