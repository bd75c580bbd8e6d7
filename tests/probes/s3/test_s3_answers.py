"""The verdict on each response of S3, malformed ones too, from a server scripted byte by byte."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from moto_s3 import S3Server
from raw_server import CLOSE, HANG, RESET, Script, Transport, answer, raw_server
from s3_pokes import aws, error, listed, poke, poke_key, s3_client

from waitd.core.connections.connection import Connection
from waitd.core.errors import ConnectionUnavailable, UnknownConnection
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable, Verdict
from waitd.probes.s3.client import BUCKET_SEEN_SECONDS
from waitd.probes.s3.key import S3KeyProbe

pytestmark = pytest.mark.usefixtures("cold_and_warm")

FOUND = answer(200, b"", 'ETag: "e"', "Last-Modified: Sat, 21 Nov 2026 02:41:00 GMT").replace(
    b"Content-Length: 0", b"Content-Length: 7"
)
KEY = {"bucket_key": "s3://bucket/dir/key"}
WILD = {"bucket_key": "s3://bucket/dir/*", "wildcard_match": True}


def to(head: Script, other: Script) -> Callable[[str, int], Script]:
    """Serves one response to a HEAD, another to a LIST."""
    return lambda request, _: head if request.startswith("HEAD") else other


UNREACHABLE: list[tuple[str, Script, dict[str, Any], str]] = [
    ("reset", [RESET], KEY, "connection_reset"),
    ("closed", [CLOSE], KEY, "disconnected"),
    ("garbage", [b"what?\r\n\r\n", CLOSE], KEY, "bad_answer"),
    ("503", [answer(503)], KEY, "http_503"),
    ("500", [answer(500)], KEY, "http_500"),
    ("429", [answer(429)], KEY, "http_429"),
    ("a redirect to nowhere", [answer(301)], KEY, "http_301"),
    ("200 of something else", [answer(200, b"")], KEY, "bad_answer"),
    ("SlowDown", [error(503, "SlowDown")], WILD, "http_503"),
    ("a truncated list", [listed("dir/a")[:-20], CLOSE], WILD, "truncated"),
    ("not a list", [answer(200, b"<html>")], WILD, "bad_answer"),
    ("another document", [answer(200, b"<Other/>")], WILD, "bad_answer"),
    ("a list with a document type", [answer(200, b"<!DOCTYPE x [<!ENTITY y 'z'>]><ListBucketResult/>")], WILD, "bad_answer"),
    ("a list that is empty", [answer(200, b"")], WILD, "bad_answer"),
    ("a size that is not a number", [listed("dir/a", size="x")], WILD, "bad_answer"),
    ("truncated without a token", [listed("dir/a", more=" ")], WILD, "bad_answer"),
    ("an expired token", [error(400, "ExpiredToken")], WILD, "credentials_expired"),
    ("a skewed clock", [error(403, "RequestTimeTooSkewed")], WILD, "clock_skew"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("script", "params", "reason"), [case[1:] for case in UNREACHABLE], ids=[case[0] for case in UNREACHABLE]
)
async def test_a_response_that_does_not_show_the_key_ends_no_wait(
    script: Script, params: dict[str, Any], reason: str
) -> None:
    async with raw_server(script) as server:
        found = await poke_key(aws(server.url), **params)
    assert isinstance(found, Unreachable), found
    assert found.reason == reason


async def test_retry_after_is_passed_on_and_nothing_is_retried_at_once() -> None:
    async with raw_server([error(503, "SlowDown", "Retry-After: 9")]) as server:
        found = await poke_key(aws(server.url), **WILD)
    assert found == Unreachable("http_503", "HTTP 503 Service Unavailable: SlowDown", 9.0)
    assert len(server.requests) == 1


async def test_an_endpoint_may_be_down_and_come_back(s3: S3Server) -> None:
    async with raw_server([FOUND]) as server:
        url = server.url
    async with s3_client(aws(url), s3.connection()) as client:
        probe = S3KeyProbe(client)
        [down] = await poke(probe, KEY)
        assert down == Unreachable("connection_refused", "The connection was refused.")
    async with raw_server([CLOSE]) as server, s3_client(aws(server.url)) as client:
        probe = S3KeyProbe(client)
        [down] = await poke(probe, KEY)
        server.script = lambda _request, _n: [FOUND]
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
        found = await poke_key(aws(server.url), **KEY)
    assert isinstance(found, Failure)
    assert (found.reason, found.silenceable) == ("access_denied", True)
    assert "s3:ListBucket" in found.message


@pytest.mark.parametrize(
    ("code", "reason"),
    [("InvalidAccessKeyId", "invalid_access_key_id"), ("SignatureDoesNotMatch", "bad_signature")],
)
async def test_a_list_explains_an_error_of_a_head(code: str, reason: str) -> None:
    async with raw_server(to([answer(403)], [error(403, code)])) as server:
        found = await poke_key(aws(server.url), **KEY)
    assert isinstance(found, Failure)
    assert found.reason == reason


async def test_an_expired_token_does_not_fail_a_head_either() -> None:
    async with raw_server(to([answer(400)], [error(400, "ExpiredToken")])) as server:
        found = await poke_key(aws(server.url), **KEY)
    assert isinstance(found, Unreachable)
    assert found.reason == "credentials_expired"


async def test_refused_credentials_are_refreshed_once() -> None:
    refuse = to([answer(403)], [error(403, "InvalidAccessKeyId")])
    async with raw_server(
        lambda request, n: [FOUND] if "Credential=NEW" in request else refuse(request, n)
    ) as server:
        old, new = (
            aws(server.url),
            Connection("aws_default", "aws", login="NEW", password="s", extra={"endpoint_url": server.url}),
        )
        async with s3_client(old, new) as client:
            [found] = await poke(S3KeyProbe(client), KEY)
        assert isinstance(found, Success)
        async with s3_client(old, ConnectionUnavailable("down")) as client:
            [down] = await poke(S3KeyProbe(client), KEY)
        assert down == Unreachable("credentials_unavailable", "The credentials cannot be looked up now: their backend does not answer, or refuses.")  # fmt: skip
        async with s3_client(old, old) as client:
            [refused] = await poke(S3KeyProbe(client), KEY)
        assert isinstance(refused, Failure)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(UnknownConnection("x"), "unknown_connection"), (ConnectionUnavailable("x"), "credentials_unavailable")],
)
async def test_an_unavailable_connection_ends_no_wait(error: Exception, reason: str) -> None:
    found = await poke_key(error, **KEY, aws_conn_id="mine")
    assert isinstance(found, Unreachable)
    assert found.reason == reason


async def test_the_message_about_an_unusable_connection_quotes_no_secret() -> None:
    found = await poke_key(aws("http://user:hidden@x"), **KEY)
    assert isinstance(found, Unreachable)
    assert found.reason == "connection_invalid"
    assert "hidden" not in found.message


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
        [gone] = await poke(probe, KEY)
    assert isinstance(gone, Failure)
    assert gone.reason == "no_such_bucket"


@pytest.mark.parametrize(
    ("after", "verdict"),
    [([FOUND], Success), ([answer(403)], Failure), ([answer(503)], Unreachable), ([CLOSE], Unreachable)],
)
async def test_another_response_than_absent_takes_the_full_poke(
    after: Script, verdict: type[Verdict]
) -> None:
    async with (
        raw_server(to([answer(404)], [listed()])) as server,
        s3_client(aws(server.url)) as client,
    ):
        probe = S3KeyProbe(client)
        assert [await poke(probe, KEY) for _ in range(2)] == [
            [Pending("absent", "The key does not exist.")]
        ] * 2
        server.script = to(after, [error(403, "AccessDenied")])
        [seen] = await poke(probe, KEY)
    assert isinstance(seen, verdict)


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
        found = await poke_key(aws(server.url), **(WILD | {"bucket_key": "s3://bucket/dir/y*"}))
        assert isinstance(found, Unreachable)
        assert found.reason == "too_many_keys"
        assert len(server.requests) == 100
        assert "continuation-token=t%2F%2B%3D" in server.paths[1]
        checked = await poke_key(aws(server.url), **WILD, check="true")
        assert isinstance(checked, Unreachable)
        seen = await poke_key(aws(server.url), **WILD)
        assert seen == Success(None, "result_omitted", "The keys exist.")


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
        found = await poke_key(aws(server.url), **WILD, metadata_keys=["Key"])
        assert "encoding-type=url" in server.paths[0]
    assert isinstance(found, Success)
    assert found.payload == [{"Key": key}]


@pytest.mark.parametrize("params", [KEY, WILD])
@pytest.mark.parametrize("where", ["header", "body"])
async def test_the_region_of_a_bucket_is_learned_from_its_response(
    params: dict[str, Any], where: str
) -> None:
    malformed = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-far-7</Region></Error>"

    def script(request: str, _: int) -> Script:
        if "/eu-far-7/s3/" in request:
            return [FOUND if request.startswith("HEAD") else listed("dir/key")]
        if where == "header":
            return [answer(400, b"", "x-amz-bucket-region: eu-far-7")]
        return [answer(400, b"") if request.startswith("HEAD") else answer(400, malformed)]

    async with raw_server(script) as server, s3_client(aws(server.url)) as client:
        probe = S3KeyProbe(client)
        assert isinstance((await poke(probe, params))[0], Success)
        before = len(server.requests)
        assert isinstance((await poke(probe, params))[0], Success)
        assert len(server.requests) == before + 1


async def test_a_region_that_is_not_a_name_is_ignored() -> None:
    async with raw_server([answer(400, b"", "x-amz-bucket-region: evil.example/")]) as server:
        found = await poke_key(aws(server.url), **WILD)
    assert isinstance(found, Failure)
    assert found.reason == "http_400"


async def test_a_redirect_to_another_origin_is_not_followed() -> None:
    async with (
        raw_server([FOUND]) as other,
        raw_server([answer(307, b"", f"Location: {other.url}/x")]) as server,
    ):
        found = await poke_key(aws(server.url), **KEY)
    assert isinstance(found, Unreachable)
    assert other.requests == []


async def test_requests_to_a_public_bucket_are_not_signed() -> None:
    async with raw_server([FOUND]) as server:
        found = await poke_key(aws(server.url, config_kwargs={"signature_version": "unsigned"}), **KEY)
        assert isinstance(found, Success)
        assert "authorization" not in server.requests[0].lower()


async def test_a_session_token_is_sent_and_signed() -> None:
    async with raw_server([FOUND]) as server:
        await poke_key(aws(server.url, aws_session_token="tok"), **KEY)
        assert "X-Amz-Security-Token: tok" in server.requests[0]
        assert "x-amz-security-token, Signature=" in server.requests[0]


async def test_without_aws_default_the_environments_credentials_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with raw_server([FOUND]) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        found = await poke_key(UnknownConnection("aws_default"), **KEY)
        assert isinstance(found, Success)
        assert "Credential=ENV/" in server.requests[0]
        named = await poke_key(UnknownConnection("aws_default"), **KEY, aws_conn_id="aws_default")
        assert isinstance(named, Unreachable)


async def test_a_check_too_heavy_for_the_loop_runs_in_a_worker_and_in_time() -> None:
    keys = [f"dir/{n}" for n in range(900)]
    heavy = "files.map(f, files.size()).size() > 0 && files.exists(f, f.Key.matches('(a|b|c){1,50}x$'))"
    async with raw_server([listed(*keys)]) as server:
        started = time.monotonic()
        found = await poke_key(aws(server.url), **WILD, check=heavy, request_timeout=5.0)
    assert time.monotonic() - started < 10
    assert isinstance(found, (Pending, Unreachable))
