"""What a request carries is masked in every way in which an answer may write it."""

import base64
import html
import json
import pickle
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from waitd.core.aws.signature import AwsKeys
from waitd.core.connections.masking import SecretMask
from waitd.core.connections.sent_secrets import (
    authorization_mask,
    body_secrets,
    grant_secrets,
    header_secrets,
    keys_mask,
    query_secrets,
    signature_of,
)
from waitd.core.connections.token_requests import TokenRequest

SECRETS = ["s3cr3t", "plain0123456789abcdef", 'pl/9c+&=%:ü0 "x\\12345']
#: Every way in which a secret is written; the mask may leave a character of base64 at each side.
ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON with UTF-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    "slashes escaped": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "each character escaped": lambda text: "".join(f"\\u{ord(each):04X}" for each in text),
    "URL": quote,
    "URL, every sign": lambda text: quote(text, safe=""),
    "URL, small letters": lambda text: quote(text, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
    "URL twice": lambda text: quote(quote(text, safe=""), safe=""),
    "form": quote_plus,
    "HTML": html.escape,
    **{
        f"base64 after {before!r}": lambda text, before=before: base64.b64encode(  # type: ignore[misc]
            f"{before}{text}:after".encode()
        ).decode()
        for before in ("", "u", "u:", "u:x")
    },
    "URL-safe base64": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "JSON in base64": lambda text: base64.b64encode(json.dumps([text]).encode()).decode(),
    "JSON with UTF-8 in base64": lambda text: base64.b64encode(
        json.dumps([text], ensure_ascii=False).encode()
    ).decode(),
    "hex": lambda text: text.encode().hex(),
    "hex in capitals": lambda text: text.encode().hex().upper(),
    "base64 in a URL": lambda text: quote(base64.b64encode(text.encode()).decode(), safe=""),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_masked_in_each_encoding(secret: str, encoding: str) -> None:
    written = ENCODINGS[encoding](secret)
    mask = SecretMask([secret])
    for masked in (
        mask.mask_bytes(f'{{"seen": "<{written}>"}}'.encode()).decode(),
        pickle.loads(pickle.dumps(mask)).mask_bytes(f'{{"seen": "<{written}>"}}'.encode()).decode(),
        mask.mask_text(f'{{"seen": "<{written}>"}}'),
    ):
        assert masked.startswith('{"seen": "<')
        assert masked.endswith('>"}')
        assert "***" in masked
        assert written not in masked
        if "base64" not in encoding:
            assert masked == '{"seen": "<***>"}'


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_body_without_the_secret_is_the_same_object(encoding: str) -> None:
    body = f'{{"seen": "{ENCODINGS[encoding]("no/thing+to see")}"}}'.encode()
    assert SecretMask(SECRETS).mask_bytes(body) is body


def test_a_number_that_is_the_secret_leaves_json_json() -> None:
    body = b'{"a":12345678,"b":"x12345678","c":[1,-912345678.5,"\\"12345678"]}'
    assert json.loads(SecretMask(["12345678"]).mask_bytes(body)) == {
        "a": "***",
        "b": "x***",
        "c": [1, "***", '"***'],
    }


def test_keys_are_masked_but_user_names_are_only_whole_words_of_values() -> None:
    mask = SecretMask(["s3cr3t"], ["alice"])
    body = b'{"s3cr3t":{"alice":"alice","x":"malice alice-2 by alice."}}'
    assert mask.mask_bytes(body) == b'{"***":{"alice":"***","x":"malice alice-2 by ***."}}'


@pytest.mark.parametrize("short", ["", "a", "abc", "true", "null"])
def test_what_every_text_has_is_not_searched(short: str) -> None:
    mask = SecretMask([short], [short])
    assert not mask
    assert mask.mask_bytes(b'{"abc": true, "a": null}') == b'{"abc": true, "a": null}'


def test_names_of_headers_are_masked_in_any_case() -> None:
    headers = {"x-s3cr3tvalue": "1", "y": "S3cR3tValue"}
    assert SecretMask(["S3cr3tValue"]).mask_headers(headers) == {"x-***": "1", "y": "***"}


@pytest.mark.parametrize(
    ("headers", "secrets"),
    [
        (("Authorization", "Bearer to.ken"), ["Bearer to.ken", "to.ken"]),
        (("Authorization", "Basic YWxpY2U6czNjcjN0"), ["YWxpY2U6czNjcjN0", "s3cr3t"]),
        (("Cookie", 'session=abcd1; id="efgh2"'), ["abcd1", "efgh2"]),
        (("X-Api-Key", "k3y!"), ["k3y!"]),
        (("X-Anything", "long value"), ["long value"]),
    ],
)
def test_the_secrets_of_headers(headers: tuple[str, str], secrets: list[str]) -> None:
    assert set(secrets) <= set(header_secrets([headers], of_connection=True))


def test_the_session_token_is_masked_in_the_bytes_that_an_error_of_aws_dumps() -> None:
    token = "FwoGZXIvYXdzEPL4NTED"
    canonical = f"host:s3.example\nx-amz-security-token:{token}\n".encode().hex(" ")
    body = f"<Error><CanonicalRequestBytes>{canonical}</CanonicalRequestBytes></Error>".encode()
    masked = keys_mask(AwsKeys("AKIAPLANTED12345", "never sent", token)).mask_bytes(body)
    assert token.encode().hex(" ").encode() not in masked
    assert b"3a *** 0a<" in masked


@pytest.mark.parametrize(
    ("body", "secrets"),
    [
        (
            b'{"a": {"client_secret": "s1234", "tokenType": "Bearer"}, "b": [{"apiKey": "k1234"}]}',
            {"s1234", "k1234"},
        ),
        (b'{"credentials": {"user": "u1234", "pin": ["p1234"]}, "n": 1}', {"u1234", "p1234"}),
        (b"grant_type=password&password=p%2B1234&secretName=mine", {"p+1234"}),
        (b"\xff\x00 no text", set()),
        (None, set()),
    ],
)
def test_the_secrets_of_a_body(body: bytes | None, secrets: set[str]) -> None:
    assert set(body_secrets(body)) == secrets


def test_a_login_without_a_password_is_the_key() -> None:
    token = base64.b64encode(b"sk_live_1234:").decode()
    mask = authorization_mask([("Authorization", f"Basic {token}")], None)
    assert mask.mask_bytes(b'{"sk_live_1234x": 1}') == b'{"***x": 1}'


def test_the_secrets_of_a_token_request_are_masked_in_the_targets_answers() -> None:
    in_form = TokenRequest("https://h/token", (("client_id", "me12"), ("client_secret", "s1234")))
    in_header = TokenRequest("https://h/token", (), basic_auth=("me12", "p1234"))
    secrets = [*grant_secrets(in_form), *grant_secrets(in_header)]
    assert secrets == ["s1234", "p1234"]
    mask = authorization_mask([("Authorization", "Bearer t1234")], None, secrets)
    assert mask.mask_bytes(b'["me12","s1234","p1234","t1234"]') == b'["me12","***","***","***"]'


def test_headers_that_say_what_is_wanted_are_no_secrets() -> None:
    headers = [
        ("Accept", "application/vnd.github+json"),
        ("X-GitHub-Api-Version", "2022-11-28"),
        ("X-Tenant", "sales"),
    ]
    assert [*header_secrets(headers, of_connection=True)] == []
    assert not authorization_mask(headers, None)


@pytest.mark.parametrize(
    ("query", "secrets"),
    [
        ("X-Amz-Signature=0123abcd&X-Amz-Date=20260101T000000Z", {"0123abcd"}),
        (
            "X-Amz-Credential=AKIA12345%2F20260101%2Feu%2Fs3%2Faws4_request",
            {"AKIA12345", "AKIA12345/20260101/eu/s3/aws4_request"},
        ),
        ("X-Amz-Security-Token=a%2Bb%2Fc", {"a+b/c"}),
        ("sv=2024&sig=ab%2Bcd%3D", {"ab+cd="}),
        ("api_key=k1234&apikey=k5678&access_token=t1234", {"k1234", "k5678", "t1234"}),
        ("key=AIzaSyA-1234567890abcdef", {"AIzaSyA-1234567890abcdef"}),
    ],
)
def test_the_secrets_of_a_query(query: str, secrets: set[str]) -> None:
    assert secrets <= set(query_secrets(f"https://example.org/a?{query}"))


def test_parameters_that_are_no_secrets() -> None:
    assert query_secrets("https://example.org/a?key=PROJ-123&author=ann&page=2#sig=1234") == ()


@pytest.mark.parametrize(
    ("header", "signature"),
    [
        ("AWS4-HMAC-SHA256 Credential=A/b, SignedHeaders=host, Signature=0123ab", "0123ab"),
        ("SharedKey account:q1+/w2==", "q1+/w2=="),
        ("Bearer x", None),
        (None, None),
    ],
)
def test_the_signature_of_a_request(header: str | None, signature: str | None) -> None:
    assert signature_of(header) == signature
