"""The parameters of the kind `http`: mistakes, coalescing keys, and the size of a target."""

import gc
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitd.core.connections.connection import Connection
from waitd.core.errors import InvalidInput
from waitd.core.waits.schedule import grid_phase
from waitd.models import parse_model
from waitd.probes.cel.conditions import shared_conditions
from waitd.probes.cel.expressions import ConditionSources
from waitd.probes.http.params import HttpParams, HttpTarget, _origin, endpoint_origin, parse_target

URL: dict[str, Any] = {"endpoint": "http://h.example/x"}
BY_CONN: dict[str, Any] = {"http_conn_id": "c"}
SECRETS = ("authorization", "proxy-authorization", "cookie", "x-api-key", "*-token", "*-secret")


def parse(params: dict[str, Any], namespace: str = "default", known: Connection | None = None) -> HttpTarget:
    return parse_target(params, namespace=namespace, secret_headers=SECRETS, known=known)


@pytest.mark.parametrize(
    ("params", "pointer", "words"),
    [
        ({}, "/endpoint", "http_conn_id"),
        ({"endpoint": "/x"}, "/endpoint", "absolute"),
        (URL | {"surprise": 1}, "/surprise", "known are: data, endpoint, failure_when, headers, http_conn_id, json"),
        ({"endpoint": 5} | BY_CONN, "/endpoint", "string"),
        ({"endpoint": "x" * 9000} | BY_CONN, "/endpoint", "8192"),
        ({"endpoint": "/\ud800"} | BY_CONN, "/endpoint", "unicode"),
        ({"endpoint": "http://u:p@h/"}, "/endpoint", "conn_id"),
        ({"endpoint": "http://u@h/"} | BY_CONN, "/endpoint", "conn_id"),
        ({"endpoint": "http://h/a\r\nX: y"}, "/endpoint", "control"),
        ({"endpoint": "http://h:99999/"}, "/endpoint", ""),
        ({"endpoint": "ftp://h/"}, "/endpoint", ""),
        *(({"endpoint": bad} | BY_CONN, "/endpoint", "") for bad in ("@evil", "//evil", "/\\evil", "\\\\evil", "/..", "/a/../b", "/%2e%2E/b", "/..;/b", "/a b", "/\tb", "/a\x00", "file:///etc/passwd")),
        ({"endpoint": "/x", "http_conn_id": ""}, "/endpoint", "http_conn_id"),
        (URL | {"http_conn_id": "a\nb"}, "/http_conn_id", ""),
        *((URL | {"http_conn_id": bad}, "/http_conn_id", "string") for bad in (5, 0, False)),
        (URL | {"http_conn_id": []}, "/http_conn_id", "string"),
        (URL | {"method": "TRACE"}, "/method", "GET"),
        (URL | {"method": "CONNECT"}, "/method", "GET"),
        *((URL | {"headers": {name: "hunter2"}}, f"/headers/{name}", "conn_id") for name in ("Authorization", "Cookie", "X-API-Key", "My-Token", "x-client-secret", "Proxy-Authorization")),
        *((URL | {"headers": {name: "1"}}, f"/headers/{name}", "") for name in ("Host", "content-length", "Transfer-Encoding", "Connection")),
        *((URL | {"headers": {"X-A": value}}, "/headers/X-A", "control") for value in ("a\r\nX: y", "a\nb", "a\x00", "a\x7f")),
        (URL | {"headers": {"X A": "1"}}, "/headers/X A", "name"),
        (URL | {"headers": {"a/b~": "1"}}, "/headers/a~1b~0", "name"),
        (URL | {"headers": {"X-A": 1}}, "/headers/X-A", "string"),
        (URL | {"request_params": {"a/b": True}}, "/request_params/a~1b", "number"),
        (URL | {"request_params": {"a": [1, None]}}, "/request_params/a", "number"),
        (URL | {"request_params": {"a": {}}}, "/request_params/a", "number"),
        (URL | {"data": {}}, "/data", "string"),
        (URL | {"data": "\ud800"}, "/data", "Unicode"),
        (URL | {"data": "x", "json": {}}, "/json", "not both"),
        (URL | {"json": 1 << 70}, "/json", "64"),
        (URL | {"response_error_codes_allowlist": ["404", "4xx"]}, "/response_error_codes_allowlist/1", "status"),
        (URL | {"response_error_codes_allowlist": [404]}, "/response_error_codes_allowlist/0", "string"),
        *((URL | {"request_timeout": bad}, "/request_timeout", "") for bad in (0, -1, True, "5", 1e9, None, float("nan"))),
        (URL | {"success_when": "status =="}, "/success_when", "1:10: Syntax error"),
        (URL | {"success_when": "status == 200 &&\n  stats == 1"}, "/success_when", "2:3: undeclared reference to 'stats'"),
        (URL | {"failure_when": "status == 'x'"}, "/failure_when", "1:8: found no matching overload"),
        (URL | {"success_when": "status"}, "/success_when", "1:1: this expression evaluates to INT; it must evaluate to BOOL"),
        (URL | {"failure_when": "'true'"}, "/failure_when", "BOOL"),
        (URL | {"message": "status"}, "/message", "STRING"),
        (URL | {"result": "nothing"}, "/result", "1:1: undeclared"),
        (URL | {"success_when": "true || " * 127 + " true" + " " * 5}, "/success_when", "1024"),
        (URL | {"success_when": "(" * 200 + "true" + ")" * 200}, "/success_when", "32"),
        (URL | {"success_when": "body.all(x, x.all(y, y > 1))"}, "/success_when", "comprehension"),
        (URL | {"success_when": "'\ud800' == text"}, "/success_when", "Unicode"),
        (URL | {"success_when": True}, "/success_when", "string"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_at_its_field(params: dict[str, Any], pointer: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(params)
    [problem] = caught.value.problems
    assert problem.pointer == pointer
    assert words in problem.detail
    assert "hunter2" not in problem.detail


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse({"endpoint": "/x", "success_when": "status", "headers": {"Host": "h", "Cookie": "c"}})
    assert {problem.pointer for problem in caught.value.problems} == {
        "/endpoint",
        "/success_when",
        "/headers/Host",
        "/headers/Cookie",
    }


def test_an_endpoint_outside_a_cached_connection_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse({"endpoint": "http://other.example/", **BY_CONN}, known=Connection("c", host="h.example"))
    assert caught.value.problems[0].pointer == "/endpoint"


@pytest.mark.parametrize(
    "condition", ["status == 200", "body.done", "body", "headers['x'] == '1'", "has(body.a)"]
)
def test_a_condition_may_have_a_boolean_or_a_dynamic_type(condition: str) -> None:
    expected = shared_conditions(ConditionSources(success_when=condition), frozenset({404}))
    assert parse(URL | {"success_when": condition}).conditions is expected


def test_equal_requests_with_different_conditions_have_equal_keys() -> None:
    one, two = parse(URL), parse(URL | {"success_when": "body.done", "response_error_codes_allowlist": []})
    assert one.key == two.key != ""


@pytest.mark.parametrize(
    "other",
    [
        {"endpoint": "http://h.example/y"},
        {"method": "HEAD"},
        {"http_conn_id": "c"},
        {"headers": {"X-A": "1"}},
        {"request_params": {"a": 1}},
        {"data": "x"},
        {"json": 1},
        {"request_timeout": 11.0},
        {"safe": True},
    ],
)
def test_different_requests_have_different_keys(other: dict[str, Any]) -> None:
    assert parse(URL).key != parse(URL | other).key


def test_equal_requests_of_different_namespaces_have_different_keys() -> None:
    assert parse(URL).key != parse(URL, "other").key


def test_a_post_has_no_key_but_a_fixed_phase_on_the_grid() -> None:
    one, two = parse(URL | {"method": "POST"}), parse(URL | {"method": "POST"})
    assert one.key == ""
    assert grid_phase(one.seed, 60) == grid_phase(two.seed, 60)


def test_targets_share_their_equal_parts() -> None:
    shared = {"headers": {"X-Shared": "1"}, "success_when": "body.shared"}
    targets = [parse({"endpoint": f"http://h.example/{n}", **shared}) for n in range(10)]
    for part in ("template", "conditions", "origin"):
        assert len({id(getattr(target, part)) for target in targets}) == 1


SEGMENTS = st.lists(
    st.sampled_from(
        ["", "a", "A-b_9", "..", ".", "%2e%2e", "..;x", "?q=", "#f", "{handle}", "h:80", "u@h", "http:", "http:/", "\\", " ", "é", "\n"]
    ),
    max_size=4,
).map("/".join)  # fmt: skip


@given(
    st.sampled_from(
        ["", "/", "//", "http://", "https://h", "HTTP://H:8/", "http://h/a/", "http://[::1]/", "ftp://h/"]
    ),
    SEGMENTS,
)
def test_the_cached_origin_is_that_of_the_whole_endpoint(start: str, rest: str) -> None:
    def result(origin_of: Callable[..., object]) -> object:
        try:
            return str(origin_of(start + rest, None, None))
        except ValueError:
            return ValueError

    assert result(_origin) == result(endpoint_origin)


def test_a_target_is_small() -> None:
    target = parse(URL)
    assert sys.getsizeof(target) + sys.getsizeof(target.seed) < 300
    assert not hasattr(target, "__dict__")
    shared = {id(target.template), id(target.conditions), id(target.origin)}
    own = [each for each in gc.get_referents(target) if id(each) not in shared and not isinstance(each, type)]
    assert all(isinstance(each, str) for each in own)


def test_only_characters_that_are_not_ascii_are_percent_encoded() -> None:
    assert parse({"endpoint": "/ä/%2F?q=ü", **BY_CONN}).endpoint == "/%C3%A4/%2F?q=%C3%BC"


def test_an_empty_conn_id_means_none() -> None:
    target = parse_target(URL | {"http_conn_id": ""}, namespace="default", secret_headers=(), known=None)
    assert target.conn_id is None
    assert target.key == parse_target(URL, namespace="default", secret_headers=(), known=None).key


def test_null_is_the_default_and_a_method_has_any_case_as_in_airflow() -> None:
    nulls = dict.fromkeys(("headers", "request_params", "response_error_codes_allowlist", "data", "json"))
    params = {"endpoint": "http://h/x", "method": "get"}
    assert parse_model(HttpParams, params | nulls) == parse_model(HttpParams, params | {"method": "GET"})
