"""Parameters of the kind `http` as they are written: many waits' differ only in the last segment of their endpoint.

What is left of the text without that name is looked up in what is remembered, so that the rest is checked once. Where jobs have their
names elsewhere (`/jobs/42/status`), nothing is gained.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import orjson
from msgspec import Struct

from waitd.core.connections.connection import Connection, join_url
from waitd.probes.http.params import (
    PLAIN_NAME,
    HttpTarget,
    SharedParams,
    encode_endpoint,
    endpoint_origin,
    folder_origin,
    parse_shared,
)

#: How many texts are remembered, how long one may be, in bytes, and of how many more it is known that they were met.
REMEMBERED = 1024
REMEMBERED_LENGTH = 1024
MET = 4096
#: How many objects and arrays there may be in one: how deep they may lie in each other is counted by those who look closely.
SHALLOW = 32


class _Endpoint(Struct):
    """The one field that is looked for; the others are passed over."""

    endpoint: str = ""


_decoded = msgspec.json.Decoder(_Endpoint).decode


#: Parameters in JSON but for the name at the end of their endpoint, and whose they are. A plain tuple is made in a fifth of the time.
ParamsKey = tuple[bytes, str]


class CachedFolder(NamedTuple):
    """All that parameters come to whose endpoint is a folder: of those in it, the name is still to be added.

    Attributes:
        origin: as `HttpTarget.origin`.
        endpoint: the folder as it is requested.
        seed: hashes what is asked; the name is still to be added, to a copy.
        params: the parameters, with the folder as their endpoint.
    """

    shape: SharedParams
    origin: str | None
    endpoint: str
    seed: Any
    params: dict[str, Any]


class ParamsReader:
    """Reads such texts. Holds no state but what it remembers."""

    def __init__(
        self,
        secret_headers: Sequence[str],
        cached_any: Callable[[str | None], Connection | None],
        admit: Callable[[str], None],
    ) -> None:
        """`cached_any` finds a connection that is at hand; `admit` raises InvalidInput where an origin may not be named. It is asked once: each
        poke judges anew.
        """
        self._secret_headers = tuple(secret_headers)
        self._cached_any = cached_any
        self._admit = admit
        self._known: dict[ParamsKey, CachedFolder] = {}
        #: Hashes of what was met and is not remembered yet.
        self._met: set[int] = set()

    def read(self, params: bytes, *, namespace: str) -> tuple[HttpTarget, Mapping[str, Any]] | None:
        """The target that parameters in JSON name, and they themselves; None: they are to be looked at closely.

        Raises:
            InvalidInput: they are wrong.
            ValueError: the text, or the endpoint, is wrong.
        """
        endpoint = _decoded(params).endpoint
        name = endpoint.rpartition("/")[2]
        if len(params) > REMEMBERED_LENGTH or b"\\" in params or not PLAIN_NAME.fullmatch(name):
            return None
        end = name.encode() + b'"'
        before, _, after = params.partition(end)
        if end in after:  # only where it stands there once, and as it is, it is the endpoint's that was found
            return None
        known = self._folder((before + b'"' + after, namespace))
        if known is None:
            return None
        shape, conn_id = known.shape, known.shape.template.conn_id
        if conn_id is not None and (connection := self._cached_any(conn_id)) is not None:
            join_url(connection.base_url(), endpoint)
        seed = known.seed.copy()
        seed.update(name.encode())
        target = shape.target(known.endpoint + name, known.origin, seed.hexdigest())
        return target, {**known.params, "endpoint": endpoint}

    def _folder(self, rest: ParamsKey) -> CachedFolder | None:
        """What is remembered; None the first time, since the job may have its name elsewhere, and then nothing comes again."""
        known = self._known.get(rest)
        if known is not None:
            return known
        if hash(rest) not in self._met:
            if len(self._met) >= MET:
                self._met.clear()
            self._met.add(hash(rest))
            return None
        text, namespace = rest
        if text.count(b"{") + text.count(b"[") > SHALLOW:
            return None
        known = self._looked_at(text, namespace)
        if len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[rest] = known
        return known

    def _looked_at(self, text: bytes, namespace: str) -> CachedFolder:
        params = orjson.loads(text)
        folder = params["endpoint"]
        others = {name: value for name, value in params.items() if name != "endpoint"}
        shape = parse_shared(orjson.dumps(others), namespace, self._secret_headers)
        conn_id = shape.template.conn_id
        if conn_id is None:
            origin = folder_origin(folder)
            if origin is not None:
                self._admit(origin)
        else:
            named = endpoint_origin(folder, conn_id, None)
            origin = None if named is None else str(named)
        endpoint = encode_endpoint(folder)
        seed = shape.seed.copy()
        seed.update(endpoint.encode())
        return CachedFolder(shape, origin, endpoint, seed, params)
