"""The job server over real sockets, with aiohttp as the client."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import orjson
import pytest

from waitd.bench.job_server import JobServerUrls
from waitd.bench.jobs import LIES, parse_job


@pytest.fixture
def urls(job_server: JobServerUrls) -> list[str]:
    return list(job_server.urls)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def status_and_body(http: aiohttp.ClientSession, url: str, method: str = "GET") -> tuple[int, object]:
    async with http.request(method, url) as answer:
        return answer.status, orjson.loads(await answer.read() or b"null")


async def test_jobs_run_and_end(urls: list[str], http: aiohttp.ClientSession) -> None:
    assert await status_and_body(http, f"{urls[0]}/jobs/succeed/60/a") == (202, {"status": "RUNNING"})
    assert await status_and_body(http, f"{urls[0]}/jobs/succeed/0/b") == (
        200,
        {"status": "SUCCEEDED", "job": "b"},
    )
    assert await status_and_body(http, f"{urls[0]}/jobs/fail/0/c") == (200, {"status": "FAILED", "job": "c"})
    assert await status_and_body(http, f"{urls[0]}/jobs/endless/0/d") == (202, {"status": "RUNNING"})
    assert await status_and_body(http, f"{urls[0]}/jobs/absent/60/e") == (404, {"status": "RUNNING"})
    assert await status_and_body(http, f"{urls[0]}/jobs/forbidden/0/f") == (
        403,
        {"status": "FAILED", "job": "f"},
    )


async def test_refusals_come_in_bursts_and_carry_retry_after(
    urls: list[str], http: aiohttp.ClientSession
) -> None:
    statuses = [(await status_and_body(http, f"{urls[0]}/jobs/unavailable/0/a"))[0] for _ in range(10)]
    assert statuses == [503, 503, 503, 200, 200] * 2
    assert (await status_and_body(http, f"{urls[0]}/jobs/throttled/0/a"))[0] == 200
    async with http.get(f"{urls[0]}/jobs/throttled/0/a") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")


async def test_a_hanging_job_accepts_the_request_and_never_answers(
    urls: list[str], http: aiohttp.ClientSession
) -> None:
    with pytest.raises(TimeoutError):
        async with http.get(f"{urls[0]}/jobs/dead/0/a", timeout=aiohttp.ClientTimeout(total=0.2)):
            pass


async def test_resets_and_truncations_break_the_answer(urls: list[str], http: aiohttp.ClientSession) -> None:
    with pytest.raises(aiohttp.ClientConnectionError):
        await http.post(f"{urls[0]}/jobs/resets/0/a")  # the client would repeat a GET
    with pytest.raises(aiohttp.ClientPayloadError):
        await status_and_body(http, f"{urls[0]}/jobs/truncates/0/a")


async def test_a_slow_body_arrives_complete(urls: list[str], http: aiohttp.ClientSession) -> None:
    assert await status_and_body(http, f"{urls[0]}/jobs/slow/0/a") == (
        200,
        {"status": "SUCCEEDED", "job": "a"},
    )


async def test_all_origins_serve_the_same_jobs(urls: list[str], http: aiohttp.ClientSession) -> None:
    for url in urls:
        await status_and_body(http, f"{url}/jobs/endless/1/shared")
    _, report = await status_and_body(http, f"{urls[1]}/report")
    assert isinstance(report, dict)
    assert report["jobs"]["/jobs/endless/1/shared"]["requests"] == 2


async def test_pipelined_split_and_posted_requests_are_separated(urls: list[str]) -> None:
    port = int(urls[0].rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    get = b"GET /jobs/fail/0/%d HTTP/1.1\r\nHost: x\r\n\r\n"
    post = b"POST /jobs/fail/0/3 HTTP/1.1\r\nContent-Length: 11\r\n\r\nGET / \r\n\r\n!"
    stream = get % 1 + get % 2 + post + get % 4
    for start in range(0, len(stream), 7):
        writer.write(stream[start : start + 7])
        await writer.drain()
    for n in (1, 2, 3, 4):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].split()[0])
        assert orjson.loads(await reader.readexactly(length))["job"] == str(n)
    writer.close()
    await writer.wait_closed()


async def test_a_head_request_gets_no_body(urls: list[str], http: aiohttp.ClientSession) -> None:
    assert await status_and_body(http, f"{urls[0]}/jobs/succeed/0/a", "HEAD") == (200, None)
    assert (await status_and_body(http, f"{urls[0]}/jobs/succeed/0/a"))[0] == 200


async def test_an_unknown_path_is_a_400_that_explains_the_paths(
    urls: list[str], http: aiohttp.ClientSession
) -> None:
    status, body = await status_and_body(http, f"{urls[0]}/jobs/unknown/1/a")
    assert status == 400
    assert "/jobs/{succeed|" in str(body)


async def test_keys_belong_to_the_same_jobs_on_another_port(
    job_server: JobServerUrls, http: aiohttp.ClientSession
) -> None:
    marker = f"{job_server.s3[0]}/bucket/jobs/succeed/0/k/_SUCCESS"
    async with http.head(marker) as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, "0")
    async with http.get(marker) as answer:
        assert (answer.status, await answer.read()) == (200, b"")
    async with http.post(marker) as answer:
        assert answer.status == 405
    _, report = await status_and_body(http, f"{job_server.urls[0]}/report")
    assert isinstance(report, dict)
    assert report["jobs"]["/jobs/succeed/0/k"]["reported"] is True


@asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, list[str]]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "waitd.bench.job_server",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield process, orjson.loads(await process.stdout.readline())["urls"]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_the_program_prints_its_urls_and_ends_on_sigterm(http: aiohttp.ClientSession) -> None:
    async with program("--port", "0", "--origins", "3") as (process, urls):
        assert len(set(urls)) == 3
        assert (await status_and_body(http, f"{urls[2]}/jobs/succeed/0/a"))[0] == 200
        process.terminate()
        async with asyncio.timeout(60):
            assert await process.wait() == 0


async def test_the_program_exits_with_its_parent_if_requested() -> None:
    async with program("--exit-with-parent") as (process, _):
        assert process.stdin is not None
        process.stdin.close()  # as the death of the parent does
        async with asyncio.timeout(60):
            assert await process.wait() == 0


async def test_lies_are_complete_answers_with_status_200(
    urls: list[str], http: aiohttp.ClientSession
) -> None:
    bodies = []
    for _ in range(len(LIES)):
        async with http.get(f"{urls[0]}/jobs/liar/0/a") as answer:
            assert answer.status == 200
            bodies.append(await answer.read())
    assert sorted(bodies) == sorted(lie.partition(b"\r\n\r\n")[2] for lie in LIES)


async def test_an_answer_with_latency_is_not_early(urls: list[str], http: aiohttp.ClientSession) -> None:
    latency = parse_job("/jobs/latent/0/a").behaviour.latency
    assert latency is not None
    started = asyncio.get_running_loop().time()
    for request in range(1, 6):
        assert (await status_and_body(http, f"{urls[0]}/jobs/latent/0/a"))[0] == 200
        started += latency.seconds("a", request)
        assert asyncio.get_running_loop().time() >= started - 0.001


async def test_an_outage_is_a_503(http: aiohttp.ClientSession, urls: list[str]) -> None:
    statuses: set[int] = set()
    async with asyncio.timeout(60):
        while statuses != {202, 503}:
            statuses.add((await status_and_body(http, f"{urls[0]}/jobs/outages/3600/a"))[0])
            await asyncio.sleep(0.05)


async def test_the_tally_counts_requests_and_the_report_has_the_end_of_a_job(
    job_server: JobServerUrls, http: aiohttp.ClientSession
) -> None:
    before = time.time()
    await status_and_body(http, f"{job_server.urls[0]}/jobs/succeed/0/t")
    await status_and_body(http, f"{job_server.urls[0]}/jobs/endless/0/t")
    async with http.head(f"{job_server.s3[0]}/bucket/jobs/endless/0/t/_SUCCESS") as answer:
        assert answer.status == 404
    _, tally = await status_and_body(http, f"{job_server.urls[0]}/tally")
    _, report = await status_and_body(http, f"{job_server.urls[0]}/report")
    assert isinstance(tally, dict)
    assert isinstance(report, dict)
    assert (tally["jobs"], sum(tally["gaps"])) == (2, 1)
    assert tally["requests"] >= 3
    assert before - 0.01 <= report["jobs"]["/jobs/succeed/0/t"]["done_at"] <= time.time()
    assert report["jobs"]["/jobs/endless/0/t"]["done_at"] is None


async def test_arrivals_of_recorded_jobs_are_returned_once(
    urls: list[str], http: aiohttp.ClientSession
) -> None:
    assert await status_and_body(http, f"{urls[0]}/arrivals") == (200, {"first_at": None, "arrivals": {}})
    before = time.time()
    for name in ("watched-1", "watched-1", "other"):
        await status_and_body(http, f"{urls[0]}/jobs/endless/0/{name}")
    _, recorded = await status_and_body(http, f"{urls[0]}/arrivals")
    assert isinstance(recorded, dict)
    [(path, times)] = recorded["arrivals"].items()
    assert (path, len(times)) == ("/jobs/endless/0/watched-1", 2)
    assert before <= recorded["first_at"] <= times[0] <= times[1] <= time.time()
    assert await status_and_body(http, f"{urls[0]}/arrivals") == (200, {"first_at": None, "arrivals": {}})
