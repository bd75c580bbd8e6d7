"""Bodies that are not quite JSON, over real sockets: `http` and a preset read them all."""

from typing import Any

import pytest
from preset_probes import kinds
from raw_server import answer, poke, probe, raw_server

from waitd.core.connections.connection import Connection
from waitd.core.waits.verdict import Pending, Success

pytestmark = pytest.mark.usefixtures("every_transport")

UMLAUT = '{"state": "success", "x": "f\u00fcr"}'
#: The body, its charset, and what a payload has of its field `x`.
BODIES = {
    "UTF-8 with a byte order mark": (UMLAUT.encode("utf-8-sig"), None, "f\u00fcr"),
    "a byte order mark, and another charset": (UMLAUT.encode("utf-8-sig"), "latin-1", "f\u00fcr"),
    "UTF-16 with a byte order mark": (UMLAUT.encode("utf-16"), None, "f\u00fcr"),
    "UTF-16 by its header": (UMLAUT.encode("utf-16-be"), "utf-16be", "f\u00fcr"),
    "UTF-16 by its NULs": (UMLAUT.encode("utf-16-le"), None, "f\u00fcr"),
    "UTF-32": (UMLAUT.encode("utf-32"), "utf-32", "f\u00fcr"),
    "Latin-1": (UMLAUT.encode("latin-1"), "ISO-8859-1", "f\u00fcr"),
    "Windows-1252": ('{"state": "success", "x": "5 \u20ac"}'.encode("cp1252"), '"windows-1252"', "5 \u20ac"),
    "Shift JIS": (
        '{"state": "success", "x": "\u5b8c\u4e86"}'.encode("shift_jis"),
        "Shift_JIS",
        "\u5b8c\u4e86",
    ),
    "ISO-2022-JP": (
        '{"state": "success", "x": "\u5b8c"}'.encode("iso2022_jp"),
        "iso-2022-jp",
        "\u5b8c",
    ),
    "a broken character": (b'{"state": "success", "x": "f\xfcr"}', None, "f\ufffdr"),
    "NaN": (b'{"state": "success", "x": NaN}', None, None),
    "Infinity": (b'{"state": "success", "x": [Infinity, -Infinity, 1e999]}', None, [None] * 3),
    "the first half of a pair": (b'{"state": "success", "x": "a\\ud83d"}', None, "a\ufffd"),
    "the second half of a pair": (b'{"state": "success", "x": "\\uDE00b"}', None, "\ufffdb"),
    "two first halves, and a pair": (
        b'{"state": "success", "x": "\\ud83d\\ud83d\\ude00 \\\\ud83d"}',
        None,
        "\ufffd\U0001f600 \\ud83d",
    ),
    "a line feed in a string": (b'{"state": "success", "x": "a\nb"}', None, "a\nb"),
    "2^64": (b'{"state": "success", "x": 18446744073709551616}', None, 2**64),
    "-2^63 - 1": (b'{"state": "success", "x": [-9223372036854775809]}', None, [-(2**63) - 1]),
    "30 digits": (b'{"state": "success", "x": 123456789012345678901234567890}', None, int("1234567890" * 3)),
    "300 digits": (b'{"state": "success", "x": 1' + b"0" * 299 + b"}", None, 10**299),
    "500 digits": (b'{"state": "success", "x": 1' + b"0" * 499 + b"}", None, None),
    "a long integer and NaN": (
        b'{"state": "success", "y": NaN, "x": {"z": 18446744073709551617}}',
        None,
        {"z": 2**64 + 1},
    ),
}  # fmt: skip


def typed(body: bytes, charset: str | None) -> list[bytes]:
    return [answer(200, body, "Content-Type: application/json" + (f"; charset={charset}" if charset else ""))]


@pytest.mark.parametrize("name", BODIES)
async def test_conditions_messages_and_payloads_read_a_body_as_a_lenient_reader_does(name: str) -> None:
    body, charset, x = BODIES[name]
    condition = {"success_when": "body.state == 'success' && has(body.x)", "message": "body.state"}
    async with raw_server(typed(body, charset)) as server, probe() as http:
        for result in (None, "body.x", "body"):
            more = {} if result is None else {"result": result}
            [verdict] = await poke(http, {"endpoint": server.url, **condition, **more})
            assert isinstance(verdict, Success), verdict
            assert (verdict.reason, verdict.message) == ("success", "success")
            payload: Any = verdict.payload if result == "body.x" else verdict.payload["x"]
            assert payload == x
            assert type(payload) is type(x)


@pytest.mark.parametrize("name", BODIES)
async def test_a_preset_finds_the_state_in_such_a_body(name: str) -> None:
    body, charset, x = BODIES[name]
    async with (
        raw_server(typed(body, charset)) as server,
        kinds(Connection("livy_default", "livy", host=server.url)) as presets,
    ):
        verdict = await presets.poke("livy.batch", {"batch_id": 1})
    assert isinstance(verdict, Success), verdict
    assert verdict.payload["x"] == x


@pytest.mark.parametrize(
    ("x", "condition"),
    [
        ("NaN", "!(body.x > 1.0) && !(body.x <= 1.0)"),
        ("-Infinity", "body.x < -1e308"),
        ("18446744073709551616", "body.x > 1.8e19 && body.x < 1.9e19"),
        ("1" + "0" * 2000, "body.x > 1e308"),
        ('"\\ud83d"', "body.x == '\\ufffd'"),
        ('"\0"', "body.x == '\\ufffd'"),
    ],
)
async def test_conditions_compare_what_json_does_not_know(x: str, condition: str) -> None:
    async with raw_server(typed(b'{"x": %b}' % x.encode(), None)) as server, probe() as http:
        [verdict] = await poke(http, {"endpoint": server.url, "success_when": condition})
    assert isinstance(verdict, Success), verdict


@pytest.mark.parametrize("body", [b"<html>", b'{"x": ', b"\xef\xbb\xbf", b"[" * 60_000, b"\xff\xfe", b"nan"])
async def test_what_is_no_json_stays_none(body: bytes) -> None:
    async with raw_server(typed(body, None)) as server, probe() as http:
        [pending] = await poke(http, {"endpoint": server.url, "success_when": "body != null"})
        [omitted] = await poke(http, {"endpoint": server.url})
    assert isinstance(pending, Pending)
    assert omitted == Success(None, "result_omitted", "HTTP 200 OK")


async def test_a_text_loses_its_byte_order_mark() -> None:
    async with raw_server(typed("f\u00fcr".encode("utf-16"), None)) as server, probe() as http:
        [verdict] = await poke(http, {"endpoint": server.url, "success_when": "text == 'f\u00fcr'"})
    assert isinstance(verdict, Success), verdict
