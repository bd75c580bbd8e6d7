"""The sinks of waits, parsed once for all waits that name the same sink."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from waitd.api.server.bodies import MalformedBody, decoded_field
from waitd.core.errors import InvalidInput
from waitd.core.suggestions import did_you_mean
from waitd.models import MAX_SINKS
from waitd.ports import Sink, SinkTarget

#: How many destinations are cached, and how long the JSON text of one may be for that, in bytes.
CACHED_SINKS = 4096
CACHED_LENGTH = 1024


class ParsedSink(NamedTuple):
    """A sink of a wait: its parameters with its kind; and its target, or what is wrong with it."""

    params: Mapping[str, Any]
    target: SinkTarget | None
    error: InvalidInput | None = None


class ParsedSinks(NamedTuple):
    """The sinks of a wait.

    Attributes:
        params: the parameters of every sink.
        independent: whether all are valid and none needs a connection.
    """

    params: tuple[Mapping[str, Any], ...]
    sinks: tuple[ParsedSink, ...]
    independent: bool


class SinkTargets:
    """Parses stored and submitted sinks: `{"kind": …, <parameters of that sink>}`."""

    def __init__(self, sinks: Mapping[str, Sink]) -> None:
        self._sinks = sinks
        self._parse_cached = lru_cache(maxsize=CACHED_SINKS)(self._parse)
        self._parse_each_cached = lru_cache(maxsize=CACHED_SINKS)(self._parse_each)

    def target(self, sink: Mapping[str, Any]) -> SinkTarget:
        """Returns the target of one sink.

        Raises:
            InvalidInput: the kind is unknown or its parameters are wrong; pointers are relative
                to the sink.
        """
        # The key is JSON text: as keys of a dictionary, 1, 1.0 and true would be equal.
        text = orjson.dumps(sink)
        return self._parse_cached(text) if len(text) <= CACHED_LENGTH else self._parse(text)

    def parse(self, text: bytes) -> ParsedSinks:
        """Parses the `sinks` field of a request; equal texts give the same objects.

        Raises:
            MalformedBody: the field is not a list of up to `MAX_SINKS` objects that have a kind.
        """
        return self._parse_each_cached(text) if len(text) <= CACHED_LENGTH else self._parse_each(text)

    def signed(self, sink: Mapping[str, Any]) -> bool | None:
        """Whether deliveries to the sink are signed; None if unknown, as for a removed kind."""
        try:
            target = self.target(sink)
        except InvalidInput:
            return None
        return self._sinks[sink["kind"]].signed(target)

    def _parse_each(self, text: bytes) -> ParsedSinks:
        sinks = decoded_field(text)
        if not isinstance(sinks, list) or len(sinks) > MAX_SINKS:
            raise MalformedBody.at("/sinks", f"a list of at most {MAX_SINKS} sinks is needed")
        for sink in sinks:
            if not isinstance(sink, dict) or not isinstance(sink.get("kind"), str):
                raise MalformedBody.at("/sinks", "each sink is an object with a kind")
        parsed = tuple(map(self._parse_one, sinks))
        independent = all(sink.target is not None and sink.target.conn_id is None for sink in parsed)
        return ParsedSinks(tuple(sinks), parsed, independent)

    def _parse_one(self, sink: Mapping[str, Any]) -> ParsedSink:
        try:
            return ParsedSink(sink, self.target(sink))
        except InvalidInput as error:
            return ParsedSink(
                sink, None, InvalidInput(error.problems)
            )  # without its traceback, since it is cached

    def _parse(self, text: bytes) -> SinkTarget:
        params = orjson.loads(text)
        kind = params.pop("kind")
        sink = self._sinks.get(kind)
        if sink is None:
            known, alike = ", ".join(sorted(self._sinks)), did_you_mean(kind, self._sinks)
            raise InvalidInput.at("/kind", f"unknown sink; known are: {known}{alike}")
        return sink.parse(params)
