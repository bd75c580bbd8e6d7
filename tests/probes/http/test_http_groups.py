"""One poke on behalf of several waits with equal keys."""

import pytest
from job_api import BY_CONNECTION, DONE, HUGE, IS_DONE, job_api
from raw_server import RESET, answer, poke, probe, raw_server

from waitd.core.waits.verdict import Failure, Pending, Success

pytestmark = pytest.mark.usefixtures("every_transport")


async def test_a_group_sends_one_request_and_each_wait_has_its_own_verdict() -> None:
    async with raw_server([DONE]) as server, probe() as http:
        url = {"endpoint": server.url}
        verdicts = await poke(
            http,
            url | {"success_when": "body.state == 'other'"},
            url | IS_DONE,
            url | {"failure_when": "body.n == 1"},
            url | {"success_when": "status == 201"},
            *[url] * 20,
        )
    assert len(server.requests) == 1
    assert [type(verdict) for verdict in verdicts] == [Pending, Success, Failure, Pending, *[Success] * 20]


async def test_a_body_that_is_too_large_affects_only_the_waits_that_need_it() -> None:
    async with raw_server([answer(200, HUGE)]) as server, probe() as http:
        url = {"endpoint": server.url}
        verdicts = await poke(http, url | IS_DONE, url, url | {"success_when": "status == 201"})
    assert [verdict.reason for verdict in verdicts] == ["too_large", "result_omitted", "http_200"]


async def test_only_refused_waits_of_a_group_are_poked_again() -> None:
    async with raw_server([answer(401)]) as server, probe(job_api(server.url)) as http:
        verdicts = await poke(http, BY_CONNECTION, BY_CONNECTION | {"success_when": "status == 401"})
    assert [type(verdict) for verdict in verdicts] == [Failure, Success]
    assert len(server.requests) == 2


async def test_an_error_is_the_verdict_of_every_wait_of_a_group() -> None:
    async with raw_server([RESET]) as server, probe() as http:
        verdicts = await poke(http, {"endpoint": server.url}, {"endpoint": server.url, **IS_DONE})
    assert [verdict.reason for verdict in verdicts] == ["connection_reset"] * 2
