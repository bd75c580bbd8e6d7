"""The verdict on each response of S3, malformed ones too, from a server scripted byte by byte."""

import asyncio
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from raw_server import CLOSE, HANG, RESET, Script, Transport, answer, raw_server
from s3_pokes import aws, error, listed, poke, poke_key, s3_client

from waitd.core.connections.connection import Connection
from waitd.core.errors import ConnectionUnavailable, UnknownConnection
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable, Verdict
from waitd.probes.s3.client import BUCKET_SEEN_SECONDS
from waitd.probes.s3.key import S3KeyProbe

pytestmark = pytest.mark.usefixtures("cold_and_warm")

PRESENT = answer(200, b"", 'ETag: "e"', "Last-Modified: Sat, 21 Nov 2026 02:41:00 GMT").replace(
    b"Content-Length: 0", b"Content-Length: 7"
)
KEY = {"bucket_key": "s3://bucket/dir/key"}
WILD = {"bucket_key": "s3://bucket/dir/*", "wildcard_match": True}


def to(head: Script, other: Script) -> Callable[[str, int], Script]:
    """Serves one response to a HEAD, another to a LIST."""
    return lambda request, _: head if request.startswith("HEAD") else other


#: What S3 answers, the wait, and its verdict.
CASES: list[tuple[str, Script | Callable[[str, int], Script], dict[str, Any], type[Verdict], str]] = [
    ("reset", [RESET], KEY, Unreachable, "connection_reset"),
    ("closed", [CLOSE], KEY, Unreachable, "disconnected"),
    ("garbage", [b"what?\r\n\r\n", CLOSE], KEY, Unreachable, "bad_answer"),
    ("503", [answer(503)], KEY, Unreachable, "http_503"),
    ("500", [answer(500)], KEY, Unreachable, "http_500"),
    ("429", [answer(429)], KEY, Unreachable, "http_429"),
    ("a redirect to nowhere", [answer(301)], KEY, Unreachable, "http_301"),
    ("200 of something else", [answer(200, b"")], KEY, Unreachable, "bad_answer"),
    ("SlowDown", [error(503, "SlowDown")], WILD, Unreachable, "http_503"),
    ("a truncated list", [listed("dir/a")[:-20], CLOSE], WILD, Unreachable, "truncated"),
    ("not a list", [answer(200, b"<html>")], WILD, Unreachable, "bad_answer"),
    ("another document", [answer(200, b"<Other/>")], WILD, Unreachable, "bad_answer"),
    ("a list with a document type", [answer(200, b"<!DOCTYPE x [<!ENTITY y 'z'>]><ListBucketResult/>")], WILD, Unreachable, "bad_answer"),
    ("a list that is empty", [answer(200, b"")], WILD, Unreachable, "bad_answer"),
    ("a size that is not a number", [listed("dir/a", size="x")], WILD, Unreachable, "bad_answer"),
    ("truncated without a token", [listed("dir/a", more=" ")], WILD, Unreachable, "bad_answer"),
    ("an expired token", [error(400, "ExpiredToken")], WILD, Unreachable, "credentials_expired"),
    ("a skewed clock", [error(403, "RequestTimeTooSkewed")], WILD, Unreachable, "clock_skew"),
    ("a 400 to a HEAD that a LIST explains", to([answer(400)], [error(400, "ExpiredToken")]), KEY, Unreachable, "credentials_expired"),
    ("a 403 to a HEAD that a LIST explains", to([answer(403)], [error(403, "InvalidAccessKeyId")]), KEY, Failure, "invalid_access_key_id"),
    ("a 403 to a HEAD for a wrong signature", to([answer(403)], [error(403, "SignatureDoesNotMatch")]), KEY, Failure, "bad_signature"),
    ("a region that is not a name", [answer(400, b"", "x-amz-bucket-region: evil.example/")], WILD, Failure, "http_400"),
]  # fmt: skip


TOKEN = "pl4nted/session+token="


@pytest.mark.parametrize(
    ("script", "wait"),
    [
        (
            [answer(200, b"", f'ETag: "{TOKEN}"', "Last-Modified: Sat, 21 Nov 2026 02:41:00 GMT")],
            KEY | {"metadata_keys": ["ETag"]},
        ),
        ([listed(f"dir/{TOKEN}", "dir/AKIApl4nted")], WILD),
        ([error(400, TOKEN)], WILD),
        ([error(400, b64encode(TOKEN.encode()).decode())], WILD),
        (to([answer(400)], [error(400, "AKIA&#x70;l4nted")]), KEY),
        (to([answer(404)], [error(404, TOKEN)]), KEY),
    ],
)
async def test_what_a_store_repeats_of_the_request_is_masked(
    script: Script | Callable[[str, int], Script], wait: dict[str, Any]
) -> None:
    async with raw_server(script) as server:
        connection = replace(aws(server.url, aws_session_token=TOKEN), login="AKIApl4nted")
        verdict = await poke_key(connection, **wait)
    assert not any(each in repr(verdict) for each in ("pl4nted", b64encode(TOKEN.encode()).decode()))
    assert "***" in repr(verdict) or verdict.reason == "no_such_bucket"


@pytest.mark.parametrize(
    ("script", "params", "kind", "reason"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
async def test_each_response_has_its_verdict(
    script: Script, params: dict[str, Any], kind: type[Verdict], reason: str
) -> None:
    async with raw_server(script) as server:
        verdict = await poke_key(aws(server.url), **params)
    assert (type(verdict), verdict.reason) == (kind, reason), verdict


async def test_retry_after_is_passed_on_and_nothing_is_retried_at_once() -> None:
    async with raw_server([error(503, "SlowDown", "Retry-After: 9")]) as server:
        verdict = await poke_key(aws(server.url), **WILD)
    assert verdict == Unreachable("http_503", "HTTP 503 Service Unavailable: SlowDown", 9.0)
    assert len(server.requests) == 1


async def test_an_endpoint_may_be_down_and_come_back() -> None:
    async with raw_server([PRESENT]) as server:
        url = server.url
    refused = await poke_key(aws(url), **KEY)
    assert refused == Unreachable("connection_refused", "The connection was refused.")
    async with raw_server([CLOSE]) as server, s3_client(aws(server.url)) as client:
        probe = S3KeyProbe(client)
        [down] = await poke(probe, KEY)
        server.script = lambda _request, _n: [PRESENT]
        [up] = await poke(probe, KEY)
    assert isinstance(down, Unreachable)
    assert up == Success([{"Size": 7, "Key": "dir/key"}], "success", "The keys exist.")


async def test_a_hanging_server_keeps_the_poke_until_its_caller_cancels_it() -> None:
    async with raw_server([HANG]) as server, s3_client(aws(server.url)) as client:
        probe = S3KeyProbe(client)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await poke(probe, KEY)


async def test_a_403_to_a_head_names_the_permission_that_may_be_missing() -> None:
    async with raw_server(to([answer(403)], [error(403, "AccessDenied")])) as server:
        verdict = await poke_key(aws(server.url), **KEY)
    assert isinstance(verdict, Failure)
    assert (verdict.reason, verdict.silenceable) == ("access_denied", True)
    assert "s3:ListBucket" in verdict.message


async def test_refused_credentials_are_refreshed_once() -> None:
    refuse = to([answer(403)], [error(403, "InvalidAccessKeyId")])
    async with raw_server(
        lambda request, n: [PRESENT] if "Credential=NEW" in request else refuse(request, n)
    ) as server:
        old = aws(server.url)
        unavailable = "The credentials cannot be looked up now: their backend does not answer, or refuses."
        after_refresh: list[tuple[Connection | Exception, type[Verdict], str, str]] = [
            (replace(old, login="NEW"), Success, "success", ""),
            (ConnectionUnavailable("down"), Unreachable, "credentials_unavailable", unavailable),
            (old, Failure, "invalid_access_key_id", ""),
        ]
        for refreshed, kind, reason, message in after_refresh:
            async with s3_client(old, refreshed) as client:
                [verdict] = await poke(S3KeyProbe(client), KEY)
            assert (type(verdict), verdict.reason) == (kind, reason)
            assert message in verdict.message


@pytest.mark.parametrize(
    ("connection", "reason"),
    [
        (UnknownConnection("x"), "unknown_connection"),
        (ConnectionUnavailable("x"), "credentials_unavailable"),
        (aws("http://user:hidden@x"), "connection_invalid"),
    ],
)
async def test_an_unusable_connection_ends_no_wait_and_its_secrets_are_not_quoted(
    connection: Connection | Exception, reason: str
) -> None:
    verdict = await poke_key(connection, **KEY, aws_conn_id="mine")
    assert (type(verdict), verdict.reason) == (Unreachable, reason)
    assert "hidden" not in verdict.message


async def test_a_bucket_is_checked_only_now_and_then() -> None:
    clock = [0.0]
    async with (
        raw_server(to([answer(404)], [listed()])) as server,
        s3_client(aws(server.url), monotonic=lambda: clock[0]) as client,
    ):
        probe, before = S3KeyProbe(client), Transport.taskless
        for _ in range(5):
            assert await poke(probe, KEY) == [Pending("absent", "The key does not exist.")]
        assert len(server.requests) == 6
        assert Transport.taskless - before == (4 if Transport.warm else 0)
        server.script = to([answer(404)], [error(404, "NoSuchBucket")])
        clock[0] = BUCKET_SEEN_SECONDS + 1
        [missing] = await poke(probe, KEY)
    assert (type(missing), missing.reason) == (Failure, "no_such_bucket")


@pytest.mark.parametrize(
    ("after", "kind"),
    [([PRESENT], Success), ([answer(403)], Failure), ([answer(503)], Unreachable), ([CLOSE], Unreachable)],
)
async def test_another_response_than_absent_takes_the_full_poke(after: Script, kind: type[Verdict]) -> None:
    async with (
        raw_server(to([answer(404)], [listed()])) as server,
        s3_client(aws(server.url)) as client,
    ):
        probe = S3KeyProbe(client)
        assert [await poke(probe, KEY) for _ in range(2)] == [
            [Pending("absent", "The key does not exist.")]
        ] * 2
        server.script = to(after, [error(403, "AccessDenied")])
        [verdict] = await poke(probe, KEY)
    assert isinstance(verdict, kind)


async def test_a_server_that_is_busy_is_not_asked_again_at_once() -> None:
    async with (
        raw_server(to([answer(404)], [listed()])) as server,
        s3_client(aws(server.url)) as client,
    ):
        probe = S3KeyProbe(client)
        await poke(probe, KEY)
        server.script = to([answer(503, b"", "Retry-After: 7")], [])
        before = len(server.requests)
        assert await poke(probe, KEY) == [Unreachable("http_503", "HTTP 503 Service Unavailable", 7.0)]
        assert len(server.requests) == before + 1


async def test_a_missing_key_is_absent_whatever_the_check_of_the_bucket_returns() -> None:
    for other in ([answer(503)], [error(403, "AccessDenied")], [listed("dir/key")]):
        async with raw_server(to([answer(404)], other)) as server:
            assert await poke_key(aws(server.url), **KEY) == Pending("absent", "The key does not exist.")


async def test_more_than_100_pages_are_too_many() -> None:
    async with raw_server(
        [listed("dir/x", more="<NextContinuationToken>t/+=</NextContinuationToken>")]
    ) as server:
        verdict = await poke_key(aws(server.url), **(WILD | {"bucket_key": "s3://bucket/dir/y*"}))
        assert (type(verdict), verdict.reason) == (Unreachable, "too_many_keys")
        assert len(server.requests) == 100
        assert "continuation-token=t%2F%2B%3D" in server.paths[1]
        checked = await poke_key(aws(server.url), **WILD, check="true")
        assert isinstance(checked, Unreachable)
        enough = await poke_key(aws(server.url), **WILD)
        assert enough == Success(None, "result_omitted", "The keys exist.")


async def test_a_list_has_the_literal_prefix_of_the_pattern() -> None:
    async with raw_server([listed("a/b%2B+c1")]) as server:
        await poke_key(aws(server.url), bucket_key="s3://bucket/a/b+c?", wildcard_match=True)
        assert "prefix=a%2Fb%2Bc&" in server.paths[0] + "&"


@pytest.mark.parametrize(
    ("encoding", "key"), [("<EncodingType>url</EncodingType>", "dir/a+b c\t"), ("", "dir/a%2Bb+c%09")]
)
async def test_keys_are_decoded_if_the_response_says_that_they_are_encoded(encoding: str, key: str) -> None:
    page = (
        listed("dir/a%2Bb+c%09")
        .split(b"\r\n\r\n", 1)[1]
        .replace(b"<IsTruncated>", encoding.encode() + b"<IsTruncated>")
    )
    async with raw_server([answer(200, page)]) as server:
        verdict = await poke_key(aws(server.url), **WILD, metadata_keys=["Key"])
        assert "encoding-type=url" in server.paths[0]
    assert isinstance(verdict, Success)
    assert verdict.payload == [{"Key": key}]


@pytest.mark.parametrize("params", [KEY, WILD])
@pytest.mark.parametrize("where", ["header", "body"])
async def test_the_region_of_a_bucket_is_learned_from_its_response(
    params: dict[str, Any], where: str
) -> None:
    malformed = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-far-7</Region></Error>"

    def script(request: str, _: int) -> Script:
        if "/eu-far-7/s3/" in request:
            return [PRESENT if request.startswith("HEAD") else listed("dir/key")]
        if where == "header":
            return [answer(400, b"", "x-amz-bucket-region: eu-far-7")]
        return [answer(400, b"") if request.startswith("HEAD") else answer(400, malformed)]

    async with raw_server(script) as server, s3_client(aws(server.url)) as client:
        probe = S3KeyProbe(client)
        assert isinstance((await poke(probe, params))[0], Success)
        before = len(server.requests)
        assert isinstance((await poke(probe, params))[0], Success)
        assert len(server.requests) == before + 1


async def test_a_redirect_to_another_origin_is_not_followed() -> None:
    async with (
        raw_server([PRESENT]) as other,
        raw_server([answer(307, b"", f"Location: {other.url}/x")]) as server,
    ):
        verdict = await poke_key(aws(server.url), **KEY)
    assert isinstance(verdict, Unreachable)
    assert other.requests == []


async def test_requests_to_a_public_bucket_are_not_signed() -> None:
    async with raw_server([PRESENT]) as server:
        verdict = await poke_key(aws(server.url, config_kwargs={"signature_version": "unsigned"}), **KEY)
        assert isinstance(verdict, Success)
        assert "authorization" not in server.requests[0].lower()


async def test_a_session_token_is_sent_and_signed() -> None:
    async with raw_server([PRESENT]) as server:
        await poke_key(aws(server.url, aws_session_token="tok"), **KEY)
        assert "X-Amz-Security-Token: tok" in server.requests[0]
        assert "x-amz-security-token, Signature=" in server.requests[0]


async def test_without_aws_default_the_environments_credentials_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with raw_server([PRESENT]) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        verdict = await poke_key(UnknownConnection("aws_default"), **KEY)
        assert isinstance(verdict, Success)
        assert "Credential=ENV/" in server.requests[0]
        named = await poke_key(UnknownConnection("aws_default"), **KEY, aws_conn_id="aws_default")
        assert isinstance(named, Unreachable)


async def test_a_check_too_heavy_for_the_loop_runs_in_a_worker_and_in_time() -> None:
    keys = [f"dir/{n}" for n in range(900)]
    heavy = "files.map(f, files.size()).size() > 0 && files.exists(f, f.Key.matches('(a|b|c){1,50}x$'))"
    async with raw_server([listed(*keys)]) as server:
        started = time.monotonic()
        verdict = await poke_key(aws(server.url), **WILD, check=heavy, request_timeout=5.0)
    assert time.monotonic() - started < 60
    assert isinstance(verdict, (Pending, Unreachable))
