"""The fast path of `params` as JSON text has the same results as `parse_target`, or none."""

import json
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waitd.core.connections.connection import Connection
from waitd.core.errors import InvalidInput, NotSupported
from waitd.probes.http.params import HttpTarget, parse_target
from waitd.probes.http.params_cache import MAX_CACHED, MAX_CONTAINERS, MAX_LENGTH, MAX_SEEN, ParamsReader

SECRETS = ("authorization",)
V1 = Connection("c", host="https://c.example/v1")


class Parsers:
    """The reader under test, and the parser that it must agree with."""

    def __init__(self, *connections: Connection) -> None:
        self.known: dict[str | None, Connection] = {each.conn_id: each for each in connections}
        self.reader = ParamsReader(SECRETS, self.known.get, self.admit)

    @staticmethod
    def admit(origin: str) -> None:
        if "forbidden" in origin:
            raise NotSupported.at("/endpoint", "the egress rules refuse it")

    def read(self, text: str | bytes, namespace: str = "default") -> HttpTarget | None:
        """Returns the reader's target, which equals the parser's; None if the reader has none."""
        text = text if isinstance(text, bytes) else text.encode()
        try:
            self.reader.read(text, namespace=namespace)  # the first time a text is only noted
            result = self.reader.read(text, namespace=namespace)
        except (InvalidInput, ValueError):
            return None
        if result is None:
            return None
        target, params = result
        assert params == orjson.loads(text)
        assert _parts(target) == _parts(self.parse(params, namespace))
        return target

    def parse(self, params: Mapping[str, Any], namespace: str = "default") -> HttpTarget:
        known = self.known.get(params.get("http_conn_id"))
        target = parse_target(params, namespace=namespace, secret_headers=SECRETS, known=known)
        if target.origin is not None and target.conn_id is None:
            self.admit(target.origin)
        return target


def _parts(target: HttpTarget) -> tuple[object, ...]:
    assert type(target) is HttpTarget
    return (
        *(id(target.template), target.conditions, target.endpoint, target.origin, target.seed, target.key),
        *(target.conn_id, target.request_timeout),
    )


USUAL = {
    "compact": '{"endpoint":"http://h.example/jobs/a-1_B","success_when":"body.done"}',
    "with spaces": '{"endpoint": "http://h.example/jobs/1", "method": "HEAD"}',
    "the endpoint last": '{"method":"POST","json":{"a":[1,2.5,null]},"endpoint":"http://h.example:80/1"}',
    "not ASCII": '{"endpoint":"http://h.example/jübs/1","headers":{"X-A":"ü"}}',
    "in a query": '{"endpoint":"http://h.example/x?of=a/1"}',
    "at a connection": '{"http_conn_id":"c","endpoint":"/jobs/1"}',
    "at a connection, absolute": '{"http_conn_id":"c","endpoint":"https://c.example/v1/jobs/1"}',
    "a name within another text": '{"message":"text + \'T\'","endpoint":"http://h.example/T","method":"HEAD"}',
    "with newlines": '{\n"endpoint" :\t"http://h.example/jobs/1"\r\n}',
}


@pytest.mark.parametrize("text", USUAL.values(), ids=USUAL)
def test_the_reader_reads_usual_texts(text: str) -> None:
    parsers = Parsers(V1)
    assert parsers.read(text) is not None
    assert parsers.read(text.replace("jobs/1", "jobs/another")) is not None


UNUSUAL = {
    "no endpoint": '{"http_conn_id":"c"}',
    "a folder": '{"endpoint":"http://h.example/jobs/"}',
    "an origin": '{"endpoint":"http://h.example"}',
    "an escaped name": '{"endpoint":"http://h.example/\\u0041"}',
    "a name that is not plain": '{"endpoint":"http://h.example/a.b"}',
    "an escaped slash": '{"endpoint":"http:\\/\\/h.example\\/jobs\\u002f1"}',
    "a name that ends a later text": '{"endpoint":"http://h.example/T","method":"GET"}',
    "an escaped name that a field has, too": '{"endpoint":"http://h.example/\\u0078","endpointx":[]}',
    "a name that ends an earlier text": '{"method":"GET","endpoint":"http://h.example/T"}',
    "a name that ends the field's name": '{"endpoint":"http://h.example/point"}',
    "two endpoints": '{"endpoint":"http://h.example/1","endpoint":"http://h.example/1"}',
    "a field that would become the endpoint": '{"endpoint1":"http://h.example/","endpoint":"http://h.example/1"}',
    "a later field that would become the endpoint": '{"endpoint":"http://h.example/1","endpoint1":"http://h.example/"}',
    "not an object": '["http://h.example/1"]',
    "not JSON": '{"endpoint":"http://h.example/1",}',
    "not UTF-8": b'{"endpoint":"http://h.example/1","data":"\xff"}',
    "many objects": '{"endpoint":"http://h.example/1","json":'
    + "[" * MAX_CONTAINERS
    + "]" * MAX_CONTAINERS
    + "}",
    "long": '{"endpoint":"http://h.example/1","data":"' + "x" * MAX_LENGTH + '"}',
}


@pytest.mark.parametrize("text", UNUSUAL.values(), ids=UNUSUAL)
def test_the_reader_leaves_other_texts_to_the_parser(text: str | bytes) -> None:
    parsers = Parsers()
    assert parsers.read(text) is None
    assert parsers.reader._folders == {}


def test_the_cache_is_bounded() -> None:
    parsers = Parsers()
    for n in range(MAX_SEEN + 1):  # the job's name is not the last segment
        text = b'{"endpoint":"http://h.example/%d/status"}' % n
        assert parsers.reader.read(text, namespace="default") is None
    assert parsers.reader._folders == {}
    assert len(parsers.reader._seen) <= MAX_SEEN
    for n in range(MAX_CACHED + 5):
        assert parsers.read(f'{{"endpoint":"http://h.example/{n}/status"}}') is not None
    assert len(parsers.reader._folders) == MAX_CACHED


WRONG = {
    "an unknown field": ({"surprise": 1}, InvalidInput),
    "a secret header": ({"headers": {"Authorization": "x"}}, InvalidInput),
    "a condition": ({"success_when": "nothing"}, InvalidInput),
    "another host": ({"endpoint": "http://forbidden.example/1"}, NotSupported),
    "dots": ({"endpoint": "http://h.example/../1"}, ValueError),
    "a fragment": ({"endpoint": "http://h.example/#/1"}, ValueError),
    "no host": ({"endpoint": "/jobs/1"}, ValueError),
    "a user": ({"endpoint": "http://u:p@h.example/1"}, ValueError),
    "another origin than the connection's": (
        {"http_conn_id": "c", "endpoint": "http://h.example/1"},
        ValueError,
    ),
    "out of the connection's path": (
        {"http_conn_id": "c", "endpoint": "https://c.example/1"},
        ValueError,
    ),
}


@pytest.mark.parametrize(("change", "error"), WRONG.values(), ids=WRONG)
def test_invalid_params_are_refused_each_time(change: dict[str, Any], error: type[Exception]) -> None:
    parsers = Parsers(V1)
    params = {"endpoint": "http://h.example/1"}
    assert parsers.read(orjson.dumps(params)) is not None
    assert parsers.reader.read(orjson.dumps(params | change), namespace="default") is None
    for _ in range(3):
        with pytest.raises(error):
            parsers.reader.read(orjson.dumps(params | change), namespace="default")
        with pytest.raises(InvalidInput):
            parsers.parse(params | change)


def test_a_cached_text_is_checked_against_its_current_connection() -> None:
    parsers = Parsers()
    text = '{"http_conn_id":"c","endpoint":"https://c.example/v1/1"}'
    assert parsers.read(text) is not None, "the connection is not cached yet"
    parsers.known["c"] = V1
    assert parsers.read(text) is not None
    parsers.known["c"] = Connection("c", host="https://c.example/v2")
    assert parsers.read(text) is None


def test_equal_texts_of_different_namespaces_have_different_keys() -> None:
    parsers = Parsers()
    text = '{"endpoint":"http://h.example/1"}'
    one, two = parsers.read(text, "one"), parsers.read(text, "two")
    assert one is not None
    assert two is not None
    assert one.key != two.key


#: One for all examples, so that entries cached for one example meet the texts of others.
PARSERS = Parsers(V1)
PIECES = st.sampled_from(
    ["http://h.example", "https://c.example/v1", "/", "a", "T", "1", "point", "?q=", "é", "\\", '"', "..", " "]
)  # fmt: skip
ENDPOINTS = st.lists(PIECES, max_size=5).map("".join)
FIELDS = st.sampled_from(
    ["endpoint", "endpoint1", "end", "method", "data", "http_conn_id", "message", "json"]
)
VALUES = ENDPOINTS | st.sampled_from(
    ["GET", "POST", "c", None, 1, {"endpoint": "http://h.example/1"}, ["1", "T"]]
)
PAIRS = st.lists(st.tuples(FIELDS, VALUES), max_size=3)


@given(PAIRS, ENDPOINTS, PAIRS, st.sampled_from([(",", ":"), (", ", ": ")]), st.booleans())
@settings(max_examples=500)
def test_the_reader_agrees_with_the_parser_on_any_text(
    before: list[tuple[str, Any]],
    endpoint: str,
    after: list[tuple[str, Any]],
    separators: tuple[str, str],
    ascii_only: bool,
) -> None:
    comma, colon = separators
    pairs = [*before, ("endpoint", endpoint), *after]
    fields = [json.dumps(name) + colon + json.dumps(value, ensure_ascii=ascii_only) for name, value in pairs]
    PARSERS.read("{" + comma.join(fields) + "}")
