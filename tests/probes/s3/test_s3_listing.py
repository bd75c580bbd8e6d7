"""Waits whose patterns have the same prefix share LISTs, with the verdicts that each gets alone."""

import asyncio
from typing import Any

import pytest
from moto_s3 import S3Server
from raw_server import RawServer, Script, ScriptedConnections, raw_server
from s3_pokes import aws, error, keys_of, listed, payload_of, poke, poke_key, s3_client

from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable, Verdict
from waitd.probes.access.aws import AwsEndpoint
from waitd.probes.s3.client import S3Client
from waitd.probes.s3.key import S3KeyProbe
from waitd.probes.s3.listing import CERTAINLY_TOO_MANY, PatternMatches, list_matches
from waitd.probes.s3.patterns import wildcard
from waitd.probes.s3.xml import ListPage, S3Object

ABSENT = Pending("absent", "No key matches.")
#: The verdict where more keys match than a payload can hold, or than are listed.
OMITTED = Success(None, "result_omitted", "The keys exist.")
PAGE = 1000


def wild(*texts: str, **more: Any) -> dict[str, Any]:
    keys = [text if "://" in text else f"s3://bucket/{text}" for text in texts]
    return {"bucket_key": keys, "wildcard_match": True, **more}


async def poke_all(server: RawServer, *waits: dict[str, Any]) -> list[Verdict]:
    async with s3_client(aws(server.url)) as client:
        return await poke(S3KeyProbe(client), *waits)


def pages(*each: bytes) -> Any:
    """Serves pages by their continuation tokens."""

    def script(request: str, _: int) -> Script:
        token = request.partition("continuation-token=")[2].partition(" ")[0].partition("&")[0]
        return [each[int(token or 0)]]

    return script


def page(n: int, *keys: str) -> bytes:
    return listed(*keys, more=f"<NextContinuationToken>{n + 1}</NextContinuationToken>")


async def test_patterns_that_share_a_list_match_as_they_do_alone(s3: S3Server) -> None:
    bucket = s3.bucket("in/a1.csv", "in/a2.csv", "in/a2.txt", "in/b.csv", "out/a1.csv")
    waits: list[dict[str, Any]] = [
        wild(f"s3://{bucket}/in/*.csv"),
        wild(f"s3://{bucket}/in/?1.csv"),
        wild(f"s3://{bucket}/in/*.parquet"),
        wild(f"s3://{bucket}/in/*.csv", check="size(files) > 3"),
        wild(f"s3://{bucket}/in/*.txt", metadata_keys=["Size"]),
        wild(f"s3://{bucket}/in/*2.csv", f"s3://{bucket}/in/*.txt"),
        {"bucket_key": f"s3://{bucket}/in/[ab]1?\\.csv", "use_regex": True},
        wild(f"s3://{bucket}/in/*.csv"),
    ]
    async with s3_client(s3.connection()) as client:
        together = await poke(S3KeyProbe(client), *waits)
    assert together == [await poke_key(s3.connection(), **wait) for wait in waits]
    assert keys_of(together[0]) == ["in/a1.csv", "in/a2.csv", "in/b.csv"]
    assert keys_of(together[1]) == ["in/a1.csv"]
    assert together[2] == ABSENT
    assert together[3] == Pending("check", "The keys exist; check: it is false.")
    assert payload_of(together[4]) == [{"Size": 5}]
    assert keys_of(together[5]) == ["in/a2.csv", "in/a2.txt"]
    assert keys_of(together[6]) == ["in/a1.csv", "in/b.csv"]
    assert together[7] == together[0]


async def test_a_hundred_waits_cost_one_list() -> None:
    async with raw_server([listed("in/7", "in/8")]) as server:
        verdicts = await poke_all(server, *(wild(f"in/*{n % 10}") for n in range(100)))
        assert len(server.requests) == 1
    assert [keys_of(each) for each in verdicts if isinstance(each, Success)] == [["in/7"], ["in/8"]] * 10
    assert verdicts.count(ABSENT) == 80


async def test_a_list_is_read_until_no_pattern_needs_more() -> None:
    many = CERTAINLY_TOO_MANY // PAGE + 1
    full = [page(n, *(f"in/{n}-{k}.csv" for k in range(PAGE))) for n in range(many)]
    async with raw_server(pages(*full, page(many, "in/x.csv"), listed("in/y.txt"))) as server:
        assert await poke_all(server, wild("in/*.csv")) == [OMITTED]
        assert len(server.requests) == many
        many_matches, last, checked = await poke_all(
            server,
            wild("in/*.csv"),
            wild("in/*.txt"),
            wild("in/*.csv", check=f"size(files) == {many * PAGE + 1}"),
        )
        assert len(server.requests) == many + many + 2
    assert many_matches == OMITTED
    assert keys_of(last) == ["in/y.txt"]
    assert checked == OMITTED


async def test_too_many_keys_concern_only_the_waits_that_need_the_rest() -> None:
    async with raw_server([page(0, "in/a", "in/b")]) as server:
        first, absent, checked, second = await poke_all(
            server, wild("in/*a"), wild("in/*x"), wild("in/*a", check="true"), wild("in/*b")
        )
        assert len(server.requests) == 100
    assert (type(absent), absent.reason) == (Unreachable, "too_many_keys")
    assert checked == absent
    assert first == second == OMITTED


async def test_a_list_that_fails_halfway_proves_no_key_absent() -> None:
    async with raw_server(pages(page(0, "in/a"), error(503, "SlowDown"))) as server:
        verdicts = await poke_all(server, wild("in/*a"), wild("in/*b"))
    assert verdicts == [Unreachable("http_503", "HTTP 503 Service Unavailable: SlowDown")] * 2


async def test_lists_that_cannot_change_a_verdict_are_skipped() -> None:
    def script(request: str, _: int) -> Script:
        return [listed("one/a") if "prefix=one" in request else error(503, "SlowDown")]

    missing = Pending("absent", "Missing: s3://bucket/one/*b")
    async with raw_server(script) as server:
        assert await poke_all(server, wild("one/*b", "two/*")) == [missing]
        assert len(server.requests) == 1
        decided, undecided = await poke_all(server, wild("one/*b", "two/*"), wild("one/*a", "two/*"))
    assert decided == missing
    assert isinstance(undecided, Unreachable)


async def test_a_refusal_is_the_verdict_of_all_waits() -> None:
    async with raw_server([error(403, "AccessDenied")]) as server:
        verdicts = await poke_all(server, wild("in/*a"), wild("in/*b"))
    assert all(isinstance(each, Failure) and each.reason == "access_denied" for each in verdicts)


async def test_the_loop_gets_turns_while_many_patterns_are_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    async def list_page(*_: object) -> ListPage:
        return ListPage([S3Object(f"in/{n}", 5, 0.0, "") for n in range(1000)], None)

    monkeypatch.setattr(S3Client, "list_page", list_page)
    patterns = [PatternMatches(wildcard(f"in/*{n}?"), needs_all=False) for n in range(500)]
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count_turns())
    client = S3Client(ScriptedConnections([]))
    endpoint = AwsEndpoint(None, "", "eu-west-1", "auto", None, verify_tls=True)
    assert await list_matches(client, endpoint, "bucket", "in/", patterns) is None
    counting.cancel()
    assert turns > 5
    assert [each.key for each in patterns[7].objects] == ["in/7?".replace("?", str(n)) for n in range(10)] + [
        f"in/{n}7{m}" for n in range(1, 10) for m in range(10)
    ]
