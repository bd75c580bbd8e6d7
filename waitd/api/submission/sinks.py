"""Sinks of waits, parsed once for all waits that name the same one."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from waitd.api.server.bodies import decoded_part
from waitd.core.errors import InvalidInput
from waitd.models import MAX_SINKS
from waitd.ports import Sink, SinkTarget

#: How many different destinations are remembered, and how long the JSON text of one may be for that, in bytes.
REMEMBERED = 4096
REMEMBERED_LENGTH = 1024


class ParsedSinks(NamedTuple):
    """The sinks of a wait, and the connections that they name."""

    given: tuple[Mapping[str, Any], ...]
    conn_ids: tuple[str, ...]


class SinkTargets:
    """The targets of stored and submitted sinks: `{"kind": …, <that sink's parameters>}`."""

    def __init__(self, sinks: Mapping[str, Sink]) -> None:
        self._sinks = sinks
        self._parsed = lru_cache(maxsize=REMEMBERED)(self._parse)
        self._known = lru_cache(maxsize=REMEMBERED)(self._read)

    def target(self, sink: Mapping[str, Any]) -> SinkTarget:
        """Where the sink leads.

        Raises:
            InvalidInput: the kind is unknown or its parameters are wrong; pointers are relative to the sink.
        """
        # JSON text tells 1 from true and from 1.0, which compare equal as keys of a dictionary.
        text = orjson.dumps(sink)
        return self._parsed(text) if len(text) <= REMEMBERED_LENGTH else self._parse(text)

    def read(self, text: bytes) -> ParsedSinks:
        """The sinks of a wait as they are written in JSON; equal texts give the same objects.

        Raises:
            InvalidInput: they are none, too many, or one of them is wrong.
            ValueError: it is no JSON.
        """
        return self._known(text) if len(text) <= REMEMBERED_LENGTH else self._read(text)

    def signed(self, sink: Mapping[str, Any]) -> bool | None:
        """Whether deliveries to it are signed; None where that is not known, or its kind is no longer served."""
        try:
            target = self.target(sink)
        except InvalidInput:
            return None
        return self._sinks[sink["kind"]].signed(target)

    def _read(self, text: bytes) -> ParsedSinks:
        given = decoded_part(text)
        if not isinstance(given, list) or len(given) > MAX_SINKS:
            raise InvalidInput.at("", f"a list of at most {MAX_SINKS} sinks is needed")
        for sink in given:
            if not isinstance(sink, dict) or not isinstance(sink.get("kind"), str):
                raise InvalidInput.at("", "each sink is an object with a kind")
        conn_ids = [self.target(sink).conn_id for sink in given]
        return ParsedSinks(tuple(given), tuple(conn_id for conn_id in conn_ids if conn_id is not None))

    def _parse(self, text: bytes) -> SinkTarget:
        params = orjson.loads(text)
        kind = params.pop("kind")
        sink = self._sinks.get(kind)
        if sink is None:
            raise InvalidInput.at("/kind", f"unknown sink; known are: {', '.join(sorted(self._sinks))}")
        return sink.parse(params)
