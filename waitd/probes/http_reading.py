"""Parameters of the kind `http` as they are written: many waits' differ only in the last segment of their endpoint.

What is left of the text without that name is looked up in what is remembered, so that the rest is checked once.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import orjson
from msgspec import Struct

from waitd.core.connection import Connection, join
from waitd.probes.http_params import (
    PLAIN_NAME,
    HttpTarget,
    Shape,
    named_by,
    origin_of_folder,
    requested,
    shape_of,
)

#: How many texts are remembered, and how long one may be, in bytes.
REMEMBERED = 1024
REMEMBERED_LENGTH = 2048
#: How many objects and arrays there may be in one: how deep they may lie in each other is counted by those who look closely.
SHALLOW = 32


class _Endpoint(Struct):
    """The one field that is looked for; the others are passed over."""

    endpoint: str = ""


_decoded = msgspec.json.Decoder(_Endpoint).decode


class Folder(NamedTuple):
    """All that parameters come to whose endpoint is a folder: of those in it, the name is still to be added.

    Attributes:
        origin: as `HttpTarget.origin`.
        endpoint: the folder as it is requested.
        seed: hashes what is asked; the name is still to be added, to a copy.
        params: the parameters, with the folder as their endpoint.
    """

    shape: Shape
    origin: str | None
    endpoint: str
    seed: Any
    params: dict[str, Any]


class ParamsReader:
    """Reads such texts. Holds no state but a cache."""

    def __init__(
        self,
        secret_headers: Sequence[str],
        peek: Callable[[str | None], Connection | None],
        admit: Callable[[str], None],
    ) -> None:
        """`peek` finds a connection that is at hand; `admit` raises InvalidInput where an origin may not be named."""
        self._secret_headers = tuple(secret_headers)
        self._peek = peek
        self._admit = admit
        self._known = lru_cache(maxsize=REMEMBERED)(self._folder)

    def read(self, params: bytes, *, namespace: str) -> tuple[HttpTarget, Mapping[str, Any]] | None:
        """The target that parameters in JSON name, and they themselves; None: they are not written as they usually are.

        Raises:
            InvalidInput: they are wrong.
            ValueError: the text, or the endpoint, is wrong.
        """
        endpoint = _decoded(params).endpoint
        folder, slash, name = endpoint.rpartition("/")
        if len(params) > REMEMBERED_LENGTH or not PLAIN_NAME.fullmatch(name):
            return None
        known = self._known(params.replace(name.encode() + b'"', b'"', 1), namespace)
        if known.params.get("endpoint") != folder + slash:  # something before it ends like it, and was cut
            return None
        shape, conn_id = known.shape, known.shape.template.conn_id
        if conn_id is not None and (connection := self._peek(conn_id)) is not None:
            join(connection.base_url(), endpoint)
        seed = known.seed.copy()
        seed.update(name.encode())
        target = shape.target(known.endpoint + name, known.origin, seed.hexdigest())
        return target, {**known.params, "endpoint": endpoint}

    def _folder(self, text: bytes, namespace: str) -> Folder:
        params = orjson.loads(text)
        if not isinstance(params, dict) or text.count(b"{") + text.count(b"[") > SHALLOW:
            raise ValueError("not written as usual")
        rest = {name: value for name, value in params.items() if name != "endpoint"}
        shape = shape_of(orjson.dumps(rest), namespace, self._secret_headers)
        folder, conn_id = params.get("endpoint", ""), shape.template.conn_id
        if conn_id is None:
            origin = origin_of_folder(folder)
            if origin is not None:
                self._admit(origin)
        else:
            named = named_by(folder, conn_id, None)
            origin = None if named is None else str(named)
        endpoint = requested(folder)
        seed = shape.seed.copy()
        seed.update(endpoint.encode())
        return Folder(shape, origin, endpoint, seed, params)
