"""A defect met while judging one wait of a group changes no other's verdict, and is named."""

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from raw_server import Poked, ScriptedConnections, answer, poke, probe, raw_server
from s3_pokes import aws, listed, s3_client
from s3_pokes import poke as poke_s3

from waitd.core.connections.connection import Connection
from waitd.core.waits.verdict import Pending, Success, Unreachable, Verdict
from waitd.core.waits.wait import EMPTY_PROGRESS, Progress
from waitd.probes.cel.expressions import Expression
from waitd.probes.s3.key import S3KeyProbe
from waitd.probes.s3.keys_unchanged import S3KeysUnchangedProbe
from waitd.probes.s3.patterns import Pattern, wildcard
from waitd.probes.signal import TOO_SLOW, SignalProbe, SignalTarget
from waitd.probes.sql.probe import SqlProbe

#: No evaluation of this succeeds.
BROKEN, BROKEN_TEXT = "1 + 1 == 3", "string(1 + 1 + 3)"


@pytest.fixture(autouse=True)
def _defect(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = Expression.evaluate

    def broken(expression: Expression, variables: Any) -> Any:
        if expression.source in (BROKEN, BROKEN_TEXT):
            raise AttributeError("a defect")
        return evaluate(expression, variables)

    monkeypatch.setattr(Expression, "evaluate", broken)


def assert_only_second_is_broken(verdicts: Any) -> None:
    assert [type(each) for each in verdicts] == [Success, Unreachable, Success]
    assert verdicts[1].reason == "internal_error"
    assert "Error" in verdicts[1].message


@pytest.mark.parametrize("place", ["success_when", "failure_when", "message", "result"])
async def test_waits_for_one_url(place: str) -> None:
    source = BROKEN if place != "message" else BROKEN_TEXT
    async with raw_server([answer(200, b'{"done": true}')]) as server, probe() as http:
        url = {"endpoint": server.url}
        verdicts = await poke(http, url, url | {place: source}, url | {"success_when": "body.done"})
    assert len(server.requests) == 1
    assert_only_second_is_broken(verdicts)


async def test_a_wait_alone_gets_a_verdict() -> None:
    async with raw_server([answer(200, b"{}")]) as server, probe() as http:
        [verdict] = await poke(http, {"endpoint": server.url, "success_when": BROKEN})
    assert isinstance(verdict, Unreachable)


async def test_waits_for_one_signal() -> None:
    async def read(_namespace: str, _key: str) -> list[Any]:
        return [{"done": True}]

    signals = SignalProbe(read)
    waits = [{}, {"success_when": BROKEN}, {"success_when": "payload.done"}]
    targets = [signals.parse({"key": "k"} | wait, namespace="default") for wait in waits]
    assert_only_second_is_broken(await signals.poke([Poked(target) for target in targets]))


async def test_a_slow_condition_leaves_time_for_other_waits_for_the_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def read(_namespace: str, _key: str) -> list[Any]:
        return [{"list": [1] * 4000, "text": "ab" * 4000}]

    monkeypatch.setattr(SignalTarget, "request_timeout", 3.0)
    signals = SignalProbe(read)
    slow = "payload.list.all(x, !payload.text.matches('.*a.{200}c'))"
    waits = [{"success_when": slow}, {}]
    targets = [signals.parse({"key": "k"} | wait, namespace="default") for wait in waits]
    started = time.monotonic()
    too_slow, good = await signals.poke([Poked(target) for target in targets])
    assert (too_slow, type(good)) == (TOO_SLOW, Success)
    assert time.monotonic() - started < 30


async def test_waits_for_one_query(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "db").close()
    connection = Connection("db", "sqlite", host=str(tmp_path / "db"))
    sql = SqlProbe(ScriptedConnections([connection]))
    waits = [{}, {"success_when": BROKEN}, {"success_when": "rows[0].n == 1"}]
    params = [{"conn_id": "db", "sql": "SELECT 1 AS n"} | wait for wait in waits]
    targets = [sql.parse(each, namespace="default") for each in params]
    async with sql:
        assert_only_second_is_broken(await sql.poke([Poked(target) for target in targets]))


def patterns(*more: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"bucket_key": "s3://bucket/a*", "wildcard_match": True} | each for each in more]


async def test_checks_of_one_list() -> None:
    async with raw_server([listed("a1")]) as server, s3_client(aws(server.url)) as client:
        verdicts = await poke_s3(
            S3KeyProbe(client), *patterns({}, {"check": BROKEN}, {"check": "size(files) == 1"})
        )
    assert_only_second_is_broken(verdicts)


async def test_patterns_of_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    matches, bad = Pattern.matches, wildcard("a?")

    def broken(pattern: Pattern, key: str) -> bool:
        if pattern is bad:
            raise AttributeError("a defect")
        return matches(pattern, key)

    monkeypatch.setattr(Pattern, "matches", broken)
    async with raw_server([listed("a1")]) as server, s3_client(aws(server.url)) as client:
        verdicts = await poke_s3(
            S3KeyProbe(client),
            *patterns({}, {"bucket_key": "s3://bucket/a?"}, {"bucket_key": "s3://bucket/a[0-9]"}),
        )
    assert_only_second_is_broken(verdicts)


async def test_states_of_waits_for_one_prefix() -> None:
    params = {"bucket_name": "bucket", "prefix": "a", "inactivity_period": 60}
    async with raw_server([listed("a1")]) as server, s3_client(aws(server.url)) as client:
        probe = S3KeysUnchangedProbe(client)
        target = probe.parse(params, namespace="default")
        states = [None, '{"size": 1e400, "total": "0", "since": 0}', None]  # that is infinite
        group = [Poked(target, EMPTY_PROGRESS if each is None else Progress(state=each)) for each in states]
        verdicts: list[Verdict] = list(await probe.poke(group))
    assert [type(each) for each in verdicts] == [Pending, Unreachable, Pending]
    assert verdicts[1].reason == "internal_error"
