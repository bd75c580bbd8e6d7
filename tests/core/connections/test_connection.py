"""Connections: their URLs, and the hosts and paths to which their credentials may be client_url."""

import posixpath
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from waitd.core.connections.connection import (
    Connection,
    Origin,
    check_endpoint,
    encode_segment,
    is_conn_id,
    join_url,
    parse_origin,
)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://example.org", Origin("http", "example.org", 80)),
        ("https://example.org/", Origin("https", "example.org", 443)),
        ("HTTPS://EXAMPLE.org:443/x", Origin("https", "example.org", 443)),
        ("http://example.org:80", Origin("http", "example.org", 80)),
        ("http://example.org:", Origin("http", "example.org", 80)),
        ("http://example.org:00080", Origin("http", "example.org", 80)),
        ("http://example.org:8080?x=@evil", Origin("http", "example.org", 8080)),
        ("http://example.org#@evil", Origin("http", "example.org", 80)),
        ("http://127.0.0.1:1/", Origin("http", "127.0.0.1", 1)),
        ("http://[::1]:8080/", Origin("http", "::1", 8080)),
        ("http://[0:0:0:0:0:0:0:1]/", Origin("http", "::1", 80)),
        ("http://[2001:DB8::A]/", Origin("http", "2001:db8::a", 80)),
        ("http://my_service.ns/", Origin("http", "my_service.ns", 80)),
        ("http://xn--bcher-kva.example/", Origin("http", "xn--bcher-kva.example", 80)),
    ],
)
def test_an_origin_is_parsed_from_a_url(url: str, origin: Origin) -> None:
    assert parse_origin(url) == origin


@pytest.mark.parametrize(
    "url",
    [
        "", "http", "http:", "http:/evil", "http:evil", "http://", "http:///path", "//example.org", "/path", "example.org",
        "ftp://example.org", "file:///etc/passwd", "javascript:alert(1)", "://example.org",
        "http://user@example.org", "http://user:pw@example.org", "http://@example.org", "http://example.org:80@evil",
        "http://example.org\\@evil", "http:\\\\evil", "http://evil\\.example.org",
        " http://example.org", "http://example.org ", "http://exa mple.org", "http://exam\tple.org", "http://exam\nple.org",
        "http://example.org/\r\nX: y", "http://example.org/\x00", "http://example.org/\x7f", "http://example.org/\x85",
        "http://example.org/\u2028", "http://example.org/\u00a0", "http://example.org/\u202e", "http://example.org/\ud800",
        "http://bücher.example", "http://\uff45xample.org", "http://example。org", "http://evil.com℀.example.org", "http://ex\u00adample.org",
        "http://example.org:-1", "http://example.org:65536", "http://example.org:0", "http://example.org:8a", "http://example.org:٨٠",
        "http://[::1", "http://::1/", "http://[::1]evil.com/", "http://[::1%25eth0]/", "http://[fe80::1%eth0]/", "http://[v1.a]/",
        "http://[example.org]/", "http://[::1]:80:90/", "http://[]/", "http://[1.2.3.4]/",
        "http://exam%70le.org", "http://example.org%00.evil", "http://example.org%2fevil",
        "http://a..b/", "http://.example.org/", "http://example.org../", "http://./", "http://" + "a" * 64 + ".org", "http://" + "a." * 200,
        "http://exam{ple.org", "http://exam'ple.org", "http://example.org,evil.org/", "http://example.org;evil.org/",
        "http://example.org|evil.org/", "http://<evil>/", "http://exam^ple/", "http://exam*ple/", "http://$(x)/",
    ],
)  # fmt: skip
def test_a_url_that_parsers_read_differently_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        parse_origin(url)


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("http://user:pw@example.org", "conn_id"),
        ("http://b\u00fccher.example", "xn--"),
        ("http://h:65536", "1..65535"),
    ],
)
def test_the_message_says_what_to_do(url: str, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        parse_origin(url)


def test_a_trailing_dot_makes_another_host() -> None:
    assert parse_origin("http://airbyte.dev.") != parse_origin("http://airbyte.dev")
    with pytest.raises(ValueError, match="leaves the connection's origin"):
        join_url("http://airbyte.dev", "http://airbyte.dev./x")


@pytest.mark.parametrize(
    "url", ["http://user:hunter2@example.org/", "http://exa mple/?token=hunter2", "http://a..b/?hunter2"]
)
def test_no_message_quotes_the_url(url: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_origin(url)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("origin", "text"),
    [
        (Origin("http", "example.org", 80), "http://example.org"),
        (Origin("https", "example.org", 80), "https://example.org:80"),
        (Origin("https", "::1", 443), "https://[::1]"),
        (Origin("http", "::1", 8080), "http://[::1]:8080"),
    ],
)
def test_an_origin_is_written_without_its_default_port(origin: Origin, text: str) -> None:
    assert str(origin) == text
    assert parse_origin(text) == origin


@pytest.mark.parametrize(
    ("base", "endpoint", "url"),
    [
        ("http://h", "", "http://h"),
        ("http://h/", "", "http://h/"),
        ("http://h", "/", "http://h/"),
        ("http://h", "jobs/1", "http://h/jobs/1"),
        ("http://h/", "/jobs/1", "http://h/jobs/1"),
        ("http://h/api", "/jobs/1?x=../y", "http://h/api/jobs/1?x=../y"),
        ("http://h/api/", "jobs/1", "http://h/api/jobs/1"),
        ("http://h", "?x=1", "http://h/?x=1"),
        ("http://h/api", "?x=1", "http://h/api?x=1"),
        ("http://h/api/", "?x=http://evil/", "http://h/api/?x=http://evil/"),
        ("HTTP://H:80/api", "x", "http://h/api/x"),
        ("http://h/api", "http://h/api/x", "http://h/api/x"),
        ("http://h/api", "HTTP://H:80/api?x", "http://h/api?x"),
        ("http://h", "http://h", "http://h"),
        ("http://h", "http://h?x", "http://h?x"),
        ("https://[::1]:8443", "https://[0::1]:8443/x", "https://[::1]:8443/x"),
        ("http://h/api", "v1/waits:batch", "http://h/api/v1/waits:batch"),
        ("http://h", "waits:batch", "http://h/waits:batch"),
        ("http://h", "/@evil", "http://h/@evil"),
        ("http://h", ":80@evil/", "http://h/:80@evil/"),
        ("http://h", "/http://evil/", "http://h/http://evil/"),
        ("http://h", "/a..b/...", "http://h/a..b/..."),
        ("http://h", "/100%25/x%20y", "http://h/100%25/x%20y"),
        ("http://h", "/büro", "http://h/büro"),
    ],
)  # fmt: skip
def test_an_endpoint_is_joined_below_the_base(base: str, endpoint: str, url: str) -> None:
    assert join_url(base, endpoint) == url


@pytest.mark.parametrize(
    "endpoint",
    [
        "@evil", "@evil/x", "//evil", "///evil", "//evil@h/", "/\\evil", "\\\\evil", "\\evil", "/x\\..\\y",
        "http://evil", "https://h.example/api", "http://h.example:81/api", "HTTP://EVIL/", "http://h.example@evil/api",
        "http://h.example.evil/api", "http://h.example./api", "http:/evil", "https:evil", "http:evil", "HTTPS:/evil", "ftp://evil/",
        "file:///etc/passwd", "gopher://evil", "http://[::1]/api", "http://127.1/api", "http://\uff28.example/api",
        "/..", "..", "../x", "/a/..", "/a/../b", "/.", "./x", "/a/./b", "/%2e%2e/", "/%2E%2e/x", "/.%2e/x", "/%2e./x", "/%2e/x",
        "/%252e%252e/x", "/%25252e%25252e/x", "/%2525252e/x", "/..%2fx", "/a%2f..%2fb", "/..%5cx", "/a%5C..%5Cb", "/..;/x", "/..;a=b/x",
        "/%2e%2e%3b/x", "/a/..?x", "/..#x", "/x#fragment", "#", "?x#y",
        "/x\ny", "/x\r\nHost: evil", "/x y", " /x", "/x\t", "/\x00", "/\u2028", "/\ud800", "/\u200b",
        "http://h.example/admin", "http://h.example/", "http://h.example", "http://h.example/apiary", "http://h.example/api/../admin",
        "http://h.example/api/%2e%2e/admin", "http://h.example/%61pi/x", "http://user:pw@h.example/api",
    ],
)  # fmt: skip
def test_an_endpoint_that_leaves_the_connection_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError):
        join_url("http://h.example/api", endpoint)


@pytest.mark.parametrize(
    "base", ["h", "ftp://h", "http://h/?x", "http://h?x", "http://h/#x", "http://h/a/../b", "http://u@h/", "http://h/%2e%2e"]
)  # fmt: skip
def test_a_base_with_more_than_an_origin_and_a_path_is_refused(base: str) -> None:
    with pytest.raises(ValueError):
        join_url(base, "/x")


def test_an_endpoint_is_checked_before_its_connection_is_known() -> None:
    assert check_endpoint("jobs/1?x=1") is None
    assert check_endpoint("https://Example.org/x") == Origin("https", "example.org", 443)
    with pytest.raises(ValueError, match="segments"):
        check_endpoint("https://example.org/a/%2e%2e/b")


def test_many_layers_of_encoding_are_refused_quickly() -> None:
    with pytest.raises(ValueError, match="segments"):
        check_endpoint("/%" + "25" * 30_000 + "2e")


BASES = st.sampled_from(
    [
        "http://h.example",
        "https://h.example:8443/",
        "http://h.example/api",
        "http://[::1]:80/a/b/",
        "http://h.example./x",
    ]
)
PIECES = st.sampled_from(
    ["/", "//", "\\", ".", "..", "%2e", "%2E", "%252e", "%2f", "%5c", "%25", "%", ";", ":", "@", "?", "#", "http:", "https://", "HTTP://",
     "evil", "h.example", "h.example.", "api", "a", "b", "[::1]", ":80", ":8443", "\t", "\n", "\r", "\x00", " ", "\u3002", "\uff0f", "\u2024",
     "\uff0e", "é", "\u200d", "&", "=", "+", "~", "%00", "%0a", "|", "[", "]"]
)  # fmt: skip
HOSTILE = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=30)


@given(base=BASES, endpoint=HOSTILE)
@example(base="http://h.example/api", endpoint="/..;/x")
@example(base="http://h.example", endpoint="http://h.example.")
def test_a_joined_url_never_leaves_the_origin_or_the_base(base: str, endpoint: str) -> None:
    try:
        url = join_url(base, endpoint)
    except ValueError:
        return
    assert url.startswith(str(parse_origin(base)))
    assert parse_origin(url) == parse_origin(base)
    client_url, root = URL(url), URL(base)  # as the HTTP client reads it
    assert (client_url.scheme, client_url.raw_host, client_url.port) == (
        root.scheme,
        root.raw_host,
        root.port,
    )
    assert client_url.raw_user is None
    assert client_url.raw_password is None
    assert urlsplit(url).hostname == root.raw_host  # as another parser reads it
    below = root.raw_path.rstrip("/") + "/"
    path = client_url.raw_path
    for _ in range(4):  # as a server reads it that decodes it up to three times
        plain = "/".join(part.partition(";")[0] for part in path.replace("\\", "/").split("/"))
        assert (posixpath.normpath("/" + plain.lstrip("/")) + "/").startswith(below)
        path = unquote(path)


@given(HOSTILE.map("http://".__add__) | HOSTILE)
def test_an_origin_is_the_one_that_the_http_client_connects_to(url: str) -> None:
    try:
        origin = parse_origin(url)
    except ValueError:
        return
    client_url = URL(url)
    assert (client_url.scheme, client_url.raw_host, client_url.port) == tuple(origin)
    parts = urlsplit(url)
    assert (parts.scheme, parts.username, parts.port or client_url.port) == (origin.scheme, None, origin.port)


@given(st.text(min_size=1, max_size=20).filter(lambda text: text not in {".", ".."} and text.isprintable()))
def test_a_segment_stays_one_segment(text: str) -> None:
    encoded = encode_segment(text)
    assert "/" not in encoded
    assert unquote(encoded) == text


@pytest.mark.parametrize(
    "text", ["../../variables", "a/b", "/x", "//evil", "@evil", "a?b=c", "a#b", "..;/x", "%2e%2e", "a\\b", "a\r\nX: y", "http://evil/", "~", "ünï"]
)  # fmt: skip
def test_hostile_text_becomes_one_printable_segment(text: str) -> None:
    encoded = encode_segment(text)
    assert "/" not in encoded
    assert unquote(encoded) == text
    assert encoded.isascii()
    assert encoded.isprintable()


@pytest.mark.parametrize("text", ["", ".", ".."])
def test_an_empty_or_dot_segment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="segment"):
        encode_segment(text)


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "example.org"}, "http://example.org"),
        ({"host": "example.org", "schema": "https"}, "https://example.org"),
        ({"host": "example.org", "schema": "", "port": 8080}, "http://example.org:8080"),
        ({"host": "https://example.org"}, "https://example.org"),
        ({"host": "https://example.org", "schema": "http"}, "https://example.org"),
        ({"host": "https://example.org", "port": 8443}, "https://example.org:8443"),
        ({"host": "https://example.org:1/api", "port": 8443}, "https://example.org:1/api"),
        ({"host": "https://example.org/api/", "port": 8443}, "https://example.org:8443/api/"),
        ({"host": "example.org/api"}, "http://example.org/api"),
        ({"host": "example.org:8080"}, "http://example.org:8080"),
        ({"host": "example.org", "port": 0}, "http://example.org"),
        ({"host": "::1", "port": 8080}, "http://[::1]:8080"),
        ({"host": "[::1]", "port": 8080}, "http://[::1]:8080"),
        ({"host": "example.org", "conn_type": "https"}, "https://example.org"),
        ({"host": "example.org", "conn_type": "https", "schema": "http"}, "http://example.org"),
    ],
)
def test_a_connections_url_is_built_as_in_airflow(fields: dict[str, object], url: str) -> None:
    assert Connection("c", **fields).base_url() == url  # type: ignore[arg-type]  # one row has only some fields


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"host": ""}, {"host": "ftp://example.org"}, {"host": "example.org", "schema": "api/v1"}, {"host": "user:pw@example.org"},
        {"host": "example.org", "port": 70000}, {"host": "example.org/?x=1"}, {"host": "example.org/#x"}, {"host": "exa mple.org"},
        {"host": "example.org/a/../b"}, {"host": "https://example.org#x", "port": 1}, {"host": "example.org", "port": -1},
    ],
)  # fmt: skip
def test_a_connection_without_a_valid_url_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Connection("c", **fields).base_url()  # type: ignore[arg-type]  # one row has only some fields


@pytest.mark.parametrize(
    ("extra", "verifies"),
    [
        ({}, True), ({"verify": True}, True), ({"verify": False}, False), ({"verify": "false"}, False), ({"verify": "False"}, False),
        ({"verify_ssl": False}, False), ({"verify": True, "verify_ssl": False}, True), ({"verify": "/ca.pem"}, True), ({"verify": None}, True),
    ],
)  # fmt: skip
def test_tls_is_verified_unless_the_connection_disables_it(extra: dict[str, object], verifies: bool) -> None:
    assert Connection("c", extra=extra).verifies_tls() is verifies


def test_the_repr_of_a_connection_hides_its_secrets() -> None:
    connection = Connection("c", host="h", login="planted1", password="planted2", extra={"token": "planted3"})
    assert "planted" not in repr(connection) + str(connection) + f"{connection!r:>10}"


@pytest.mark.parametrize("conn_id", ["http_default", "a", "team/prod", "a.b-c:d", "A#!()\\", "x" * 250])
def test_airflows_conn_ids_are_valid(conn_id: str) -> None:
    assert is_conn_id(conn_id)


@pytest.mark.parametrize(
    "conn_id",
    ["", "a b", "a\n", "a=b", "\u0131", "\u017f", "a\x00", "$(x)", "x" * 251, "é", "a;b", "a'b", '"'],
)
def test_other_texts_are_no_conn_ids(conn_id: str) -> None:
    assert not is_conn_id(conn_id)
