"""Parameters as they are written: what is remembered of them gives what a close look at each gives."""

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


class Scene:
    """A reader, and what a close look says."""

    def __init__(self) -> None:
        self.known: dict[str | None, Connection] = {}
        self.reader = ParamsReader(SECRETS, self.known.get, self.admit)

    @staticmethod
    def admit(origin: str) -> None:
        if "forbidden" in origin:
            raise NotSupported.at("/endpoint", "not from here")

    def read(self, text: str | bytes, namespace: str = "default") -> HttpTarget | None:
        """The target, which is that of a close look; None where it takes one."""
        text = text if isinstance(text, bytes) else text.encode()
        try:
            for _ in range(2):  # what is met for the first time takes a close look
                asked = self.reader.read(text, namespace=namespace)
        except (InvalidInput, ValueError):
            return None
        if asked is None:
            return None
        target, params = asked
        assert params == orjson.loads(text)
        close = self.looked(params, namespace)
        assert _parts(target) == _parts(close)
        return target

    def looked(self, params: Mapping[str, Any], namespace: str = "default") -> HttpTarget:
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
    "as Python writes it": '{"endpoint": "http://h.example/jobs/1", "method": "HEAD"}',
    "the endpoint last": '{"method":"POST","json":{"a":[1,2.5,null]},"endpoint":"http://h.example:80/1"}',
    "not ASCII": '{"endpoint":"http://h.example/jübs/1","headers":{"X-A":"ü"}}',
    "in a query": '{"endpoint":"http://h.example/x?of=a/1"}',
    "at a connection": '{"http_conn_id":"c","endpoint":"/jobs/1"}',
    "at a connection, absolute": '{"http_conn_id":"c","endpoint":"https://c.example/v1/jobs/1"}',
    "a name that stands in another text": '{"message":"text + \'T\'","endpoint":"http://h.example/T","method":"HEAD"}',
    "lines between": '{\n"endpoint" :\t"http://h.example/jobs/1"\r\n}',
}


@pytest.mark.parametrize("text", USUAL.values(), ids=USUAL)
def test_what_is_usual_is_read_and_comes_to_the_same(text: str) -> None:
    scene = Scene()
    scene.known["c"] = Connection("c", host="https://c.example/v1")
    assert scene.read(text) is not None
    assert scene.read(text.replace("jobs/1", "jobs/another")) is not None


UNUSUAL = {
    "no endpoint": '{"http_conn_id":"c"}',
    "a folder": '{"endpoint":"http://h.example/jobs/"}',
    "an origin": '{"endpoint":"http://h.example"}',
    "a name in disguise": '{"endpoint":"http://h.example/\\u0041"}',
    "a name that is not plain": '{"endpoint":"http://h.example/a.b"}',
    "a slash in disguise": '{"endpoint":"http:\\/\\/h.example\\/jobs\\u002f1"}',
    "a name that ends a later text": '{"endpoint":"http://h.example/T","method":"GET"}',
    "a name in disguise and in a field": '{"endpoint":"http://h.example/\\u0078","endpointx":[]}',
    "a name that ends an earlier text": '{"method":"GET","endpoint":"http://h.example/T"}',
    "a name that ends the field's": '{"endpoint":"http://h.example/point"}',
    "two endpoints": '{"endpoint":"http://h.example/1","endpoint":"http://h.example/1"}',
    "a field that becomes the endpoint": '{"endpoint1":"http://h.example/","endpoint":"http://h.example/1"}',
    "a field that becomes it later": '{"endpoint":"http://h.example/1","endpoint1":"http://h.example/"}',
    "no object": '["http://h.example/1"]',
    "no JSON": '{"endpoint":"http://h.example/1",}',
    "no text": b'{"endpoint":"http://h.example/1","data":"\xff"}',
    "many objects": '{"endpoint":"http://h.example/1","json":'
    + "[" * MAX_CONTAINERS
    + "]" * MAX_CONTAINERS
    + "}",
    "long": '{"endpoint":"http://h.example/1","data":"' + "x" * MAX_LENGTH + '"}',
}


@pytest.mark.parametrize("text", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_not_usual_takes_a_close_look(text: str | bytes) -> None:
    scene = Scene()
    assert scene.read(text) is None
    assert scene.reader._folders == {}


def test_only_so_much_is_remembered() -> None:
    scene = Scene()
    for n in range(MAX_SEEN + 1):  # a job's name in the middle
        assert (
            scene.reader.read(b'{"endpoint":"http://h.example/%d/status"}' % n, namespace="default") is None
        )
    assert scene.reader._folders == {}
    assert len(scene.reader._seen) <= MAX_SEEN
    for n in range(MAX_CACHED + 5):
        assert scene.read(f'{{"endpoint":"http://h.example/{n}/status"}}') is not None
    assert len(scene.reader._folders) == MAX_CACHED


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
def test_what_is_wrong_is_not_read_however_often_it_comes(
    change: dict[str, Any], error: type[Exception]
) -> None:
    scene = Scene()
    scene.known["c"] = Connection("c", host="https://c.example/v1")
    params = {"endpoint": "http://h.example/1"}
    assert scene.read(orjson.dumps(params)) is not None
    assert scene.reader.read(orjson.dumps(params | change), namespace="default") is None
    for _ in range(3):
        with pytest.raises(error):
            scene.reader.read(orjson.dumps(params | change), namespace="default")
        with pytest.raises(InvalidInput):
            scene.looked(params | change)


def test_a_connection_that_has_changed_is_looked_at_anew() -> None:
    scene = Scene()
    text = '{"http_conn_id":"c","endpoint":"https://c.example/v1/1"}'
    assert scene.read(text) is not None, "nobody knows it yet"
    scene.known["c"] = Connection("c", host="https://c.example/v1")
    assert scene.read(text) is not None
    scene.known["c"] = Connection("c", host="https://c.example/v2")
    assert scene.read(text) is None


def test_namespaces_share_nothing() -> None:
    scene = Scene()
    text = '{"endpoint":"http://h.example/1"}'
    one, two = scene.read(text, "one"), scene.read(text, "two")
    assert one is not None
    assert two is not None
    assert one.key != two.key


#: One for all examples: what is remembered of one must not be taken for another.
SCENE = Scene()
SCENE.known["c"] = Connection("c", host="https://c.example/v1")
PIECES = st.sampled_from(
    [
        "http://h.example",
        "https://c.example/v1",
        "/",
        "a",
        "T",
        "1",
        "point",
        "?q=",
        "é",
        "\\",
        '"',
        "..",
        " ",
    ]
)
ENDPOINTS = st.lists(PIECES, max_size=5).map("".join)
FIELDS = st.sampled_from(
    ["endpoint", "endpoint1", "end", "method", "data", "http_conn_id", "message", "json"]
)
VALUES = ENDPOINTS | st.sampled_from(
    ["GET", "POST", "c", None, 1, {"endpoint": "http://h.example/1"}, ["1", "T"]]
)
PAIRS = st.lists(st.tuples(FIELDS, VALUES), max_size=3)


@given(PAIRS, ENDPOINTS, PAIRS, st.sampled_from([(",", ":"), (", ", ": ")]), st.booleans())
@settings(max_examples=500, deadline=None)
def test_whatever_is_read_comes_to_what_a_close_look_says(
    before: list[tuple[str, Any]],
    endpoint: str,
    after: list[tuple[str, Any]],
    separators: tuple[str, str],
    ascii_only: bool,
) -> None:
    comma, colon = separators
    pairs = [*before, ("endpoint", endpoint), *after]
    fields = [json.dumps(name) + colon + json.dumps(value, ensure_ascii=ascii_only) for name, value in pairs]
    SCENE.read("{" + comma.join(fields) + "}")
