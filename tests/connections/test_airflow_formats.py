"""Values of AIRFLOW_CONN_… variables.

Airflow's results were computed with apache-airflow-core 3.3.2 and task-sdk 1.3.2.
"""

import json
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitd.connections.airflow_formats import parse_connection
from waitd.core.connections.connection import Connection

C = Connection


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://example.org", C("c", "http", "example.org", schema="")),
        ("  http://example.org\n", C("c", "http", "example.org", schema="")),
        ("HTTP://Example.org/", C("c", "http", "example.org", schema="")),
        ("http://user:pass@Example.ORG:8080/https", C("c", "http", "example.org", 8080, "https", "user", "pass")),
        ("http://us%40er:p%2Fa%3Ass@example.org/", C("c", "http", "example.org", None, "", "us@er", "p/a:ss")),
        ("http://user:p@ss@host", C("c", "http", "host", None, "", "user", "p@ss")),
        ("http://:pw@host", C("c", "http", "host", None, "", "", "pw")),
        ("http://user@host", C("c", "http", "host", None, "", "user", None)),
        ("http://user:@host", C("c", "http", "host", None, "", "user", "")),
        ("http://host/a%2Fb/c", C("c", "http", "host", None, "a/b/c")),
        ("http://host/https#fragment", C("c", "http", "host", None, "https")),
        ("http://[::1]:8080/", C("c", "http", "::1", 8080, "")),
        ("http://[2001:DB8::1]/https", C("c", "http", "2001:db8::1", None, "https")),
        ("http://https%3A%2F%2FExample.org", C("c", "http", "https://Example.org", schema="")),
        ("http://u:p@https%3A%2F%2Fh%2Fapi:8443/", C("c", "http", "https://h/api", 8443, "", "u", "p")),
        ("http://https://example.org", C("c", "http", "https://example.org", schema="")),
        ("http://https://u:p@example.org:8443/x", C("c", "http", "https://example.org", 8443, "x", "u", "p")),
        ("google-cloud-platform://", C("c", "google_cloud_platform", "", schema="")),
        ("postgresql://u:p@h:5432/db", C("c", "postgres", "h", 5432, "db", "u", "p")),
        ("aws://AKIA:s%2Fecret@/?region_name=eu", C("c", "aws", "", None, "", "AKIA", "s/ecret", {"region_name": "eu"})),
        ("http://h/?x=&z=0012&X-Api-Key=a%26b", C("c", "http", "h", schema="", extra={"x": "", "z": "0012", "X-Api-Key": "a&b"})),
        ("http://h/?headers=%7B%22X-A%22%3A%20%22b%22%7D", C("c", "http", "h", schema="", extra={"headers": {"X-A": "b"}})),
        ("http://h/?a=true&b=null&c=1e5&d={x", C("c", "http", "h", schema="", extra={"a": "true", "b": "null", "c": "1e5", "d": "{x"})),
        (
            "http://?__extra__=%7B%22auth_type%22%3A%20%22bearer%22%2C%20%22n%22%3A%20%7B%22a%22%3A%201%7D%7D&other=1",
            C("c", "http", "", schema="", extra={"auth_type": "bearer", "n": {"a": 1}}),
        ),
        (
            '{"conn_type": "http", "host": "h", "login": "u", "password": "p", "port": 80, "schema": "https", "extra": {"a": 1}}',
            C("c", "http", "h", 80, "https", "u", "p", {"a": 1}),
        ),
        ('{"conn_type": "google-cloud-platform", "extra": "{\\"a\\": [1]}"}', C("c", "google_cloud_platform", extra={"a": [1]})),
        ('{"conn_type": "http", "port": "8080", "host": "h"}', C("c", "http", "h", 8080)),
        ('{"conn_type": "http", "port": "0000080", "host": "h"}', C("c", "http", "h", 80)),
        ('{"conn_type": "http", "port": "", "host": "h", "extra": null}', C("c", "http", "h")),
        ('{"conn_type": "http", "port": 0, "host": "h", "extra": ""}', C("c", "http", "h")),
        ('{\n  "conn_type": "http",\n  "host": "h",\n "description": "for jobs"\n}', C("c", "http", "h")),
    ],
)  # fmt: skip
def test_a_value_is_parsed_as_in_airflow(value: str, expected: Connection) -> None:
    assert parse_connection("c", value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://http://host", C("c", "http", "http://host", schema="")),
        ("http://h/?extra__http__token=a", C("c", "http", "h", schema="", extra={"token": "a"})),
        ("http://h/?extra__http__token=a&token=b", C("c", "http", "h", schema="", extra={"token": "b"})),
        ("http://h/?extra__aws__token=a", C("c", "http", "h", schema="", extra={"extra__aws__token": "a"})),
        ('{"conn_type": "http", "extra": {"extra__http__token": "a"}}', C("c", "http", extra={"token": "a"})),
        ('{"host": "h", "login": 12, "password": 34}', C("c", "", "h", login="12", password="34")),
    ],
)  # fmt: skip
def test_values_that_airflow_misreads_are_parsed(value: str, expected: Connection) -> None:
    assert parse_connection("c", value) == expected


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("", "neither"), ("   ", "neither"), ("planted", "neither"), ("planted:80", "neither"), ("[1]", "neither"), ('"planted"', "neither"),
        ("{", "not a JSON object"), ('{"password": "planted"', "not a JSON object"), ("{" * 100_000, "not a JSON object"),
        ("http://a://planted://c", "second ://"), ("http://u:planted@host/?u=https://x", "second ://"), ("http://host/?u=https://x", "second ://"),
        ("http://u:planted@host:99999", "port"), ("http://host:planted", "port"), ("http://user:plan#ted@host", "port"),
        ("http://u:planted@[::1", "host is malformed"), ("http://planted@ho%40st", "contains an @"), ("http://host\x00planted", "control characters"),
        ("http://host/\nplanted", "control characters"),
        ('{"host": "h", "planted": 1}', "1 unknown fields"), ('{"host": ["planted"]}', "its host is not a string"),
        ('{"password": true}', "its password is not a string"), ('{"port": "planted"}', "its port"), ('{"port": 70000}', "its port"),
        ('{"port": 80.5}', "its port"), ('{"port": true}', "its port"), ('{"port": [80]}', "its port"), ('{"port": "1234567"}', "its port"),
        ('{"extra": "planted"}', "extra is not a JSON object"), ('{"extra": ["planted"]}', "extra is not a JSON object"),
        ('{"extra": 1}', "extra is not a JSON object"), ("http://h/?__extra__=planted", "extra is not a JSON object"),
        ('{"host": "u:planted@h"}', "contains an @"), ('{"conn_type": 1.5}', "conn_type is not a string"),
    ],
)  # fmt: skip
def test_an_invalid_value_is_an_error_that_does_not_quote_it(value: str, error: str) -> None:
    with pytest.raises(ValueError, match=error) as raised:
        parse_connection("c", value)
    assert (
        "planted"
        not in "".join(traceback.format_exception(raised.value, chain=True))
        .replace(__file__, "")
        .split("ValueError:")[-1]
    )
    assert raised.value.__context__ is None  # json's and urllib's own errors carry the text


@given(
    st.text(max_size=40) | st.text(alphabet="htp:/@?#[]%{}\"',.=&_x1 ", max_size=40).map("http://".__add__)
)
def test_any_text_is_a_connection_or_a_value_error(value: str) -> None:
    try:
        parse_connection("c", value)
    except ValueError:
        return


@given(
    login=st.text(max_size=8) | st.none(),
    password=st.text(max_size=8) | st.none(),
    extra=st.dictionaries(
        st.sampled_from(["token", "auth_type", "X-A", "webhook_secret"]), st.text(max_size=8)
    ),
)
def test_credentials_pass_through_json_unchanged(
    login: str | None, password: str | None, extra: dict[str, str]
) -> None:
    fields = {"conn_type": "http", "host": "h", "login": login, "password": password, "extra": extra}
    connection = parse_connection("c", json.dumps(fields))
    assert (connection.login, connection.password, connection.extra) == (login, password, extra)
