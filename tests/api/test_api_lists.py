"""Lists: pages cut short by their size, answers that are streamed, and readers that do not read."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import aiohttp
import anyio
import orjson
import pytest
from api_answers import pointers_of, problem_of
from api_fakes import Api, bearer, connected, until, wait

from waitd.api import dependencies
from waitd.api.handlers import deliveries, lists, waits
from waitd.api.handlers.lists import Page, next_part
from waitd.core.auth.quotas import DEFAULT_SHARES, Resource
from waitd.core.errors import Unavailable

#: By path: the field of the items, and what makes up to three of them.
LISTS = {"/v1/waits": "waits", "/v1/deliveries": "deliveries", "/v1/audit": "changes", "/v1/keys": "keys"}
MAX_LISTS = int(DEFAULT_SHARES[Resource.READS].principal)
PAGED = [path for path in LISTS if path != "/v1/keys"]


async def fill(api: Api, count: int = 7) -> None:
    """Makes as many items of every list."""
    for number in range(count):
        wait_id = await api.submit(sinks=[{"kind": "plain_sink", "url": "u" * number}])
        await api.store.end(wait_id)
        await api.post("/v1/keys", {"role": "viewer"})


async def all_items(api: Api, path: str, limit: int) -> tuple[list[Any], list[int]]:
    """Returns the items of all pages, and how many each page has."""
    pages = await api.pages(path, LISTS[path], limit=str(limit))
    return [item for page in pages for item in page], [len(page) for page in pages]


@pytest.mark.parametrize("part", [1, 2, 3, 100])
@pytest.mark.parametrize("path", PAGED)
async def test_a_page_cut_short_by_its_size_leads_to_the_rest(
    api: Api, path: str, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(api)
    monkeypatch.setattr(lists, "FIRST_PART", part)
    monkeypatch.setattr(lists, "MAX_PART", part)
    expected, [count] = await all_items(api, path, 1000)
    assert count == len(expected) >= 7
    for limit in (1, 2, 3, 6, 7, 8):
        items, sizes = await all_items(api, path, limit)
        assert items == expected
        assert sizes == [min(limit, count - start) for start in range(0, count, limit)]
    size = len(orjson.dumps(expected[0]))
    for budget in (1, size, size + 1, 3 * size, 100 * size):
        monkeypatch.setattr(dependencies, "PAGE_BYTES", budget)
        for limit in (1, 2, 5, 7, 1000):
            items, sizes = await all_items(api, path, limit)
            assert items == expected
            assert sum(sizes) == count
            assert budget > 1 or sizes == [1] * count


async def test_a_page_of_keys_ends_by_its_size_and_leads_to_the_rest(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(api)
    whole = (await api.get("/v1/keys"))["keys"]
    assert len(whole) == 7
    monkeypatch.setattr(lists, "FIRST_PART", 2)
    for budget in (1, 2 * len(orjson.dumps(whole[0]))):
        monkeypatch.setattr(dependencies, "PAGE_BYTES", budget)
        pages = await api.pages("/v1/keys", "keys")
        assert len(pages) >= 3
        assert [key for page in pages for key in page] == whole
    first = await api.get("/v1/keys")
    monkeypatch.setattr(dependencies, "PAGE_BYTES", 1 << 40)
    new = await (await api.post("/v1/keys", {"role": "viewer"})).json()
    rest = (await api.get("/v1/keys", page_token=first["next_page_token"]))["keys"]
    assert [key for key in rest if key["id"] != new["id"]] == whole[len(first["keys"]) :]
    for bad in ("x", "MSB4eCB4"):
        assert await pointers_of(await api.client.get("/v1/keys", params={"page_token": bad})) == [
            "/page_token"
        ]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", [*LISTS, "/v1/cost"])
async def test_a_streamed_answer_is_the_same(
    api: Api, path: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(api)
    url = path + ("" if path in {"/v1/keys", "/v1/cost"} else "?limit=5")
    whole = await api.client.request(method, url)
    monkeypatch.setattr(lists, "SENT_BYTES", 1)
    streamed = await api.client.request(method, url)
    assert whole.status == streamed.status
    assert await whole.read() == await streamed.read()
    if path in LISTS and method == "GET":
        assert "Content-Length" in whole.headers
        assert "Content-Length" not in streamed.headers
        assert streamed.headers["X-Content-Type-Options"] == "nosniff"


async def big_waits(api: Api, count: int = 200) -> None:
    """Stores waits of which a list does not fit into the buffers of a connection."""
    for _ in range(count):
        response = await api.post("/v1/waits", wait(params={"endpoint": "x" * 60_000}), **bearer("admin"))
        assert response.status == 201


REQUEST = b"GET /v1/waits?limit=1000 HTTP/1.1\r\nHost: localhost\r\nAuthorization: %b\r\n\r\n"


async def test_too_many_lists_at_the_same_time_are_a_429_and_others_may_read(
    guarded: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await big_waits(guarded)
    reading, proceed = 0, asyncio.Event()
    find = guarded.store.find

    async def slow_find(filter_: Any) -> Any:
        nonlocal reading
        reading += 1
        await proceed.wait()
        return await find(filter_)

    monkeypatch.setattr(guarded.store, "find", slow_find)
    running = [
        asyncio.create_task(guarded.client.get("/v1/waits?limit=3", headers=bearer("admin")))
        for _ in range(MAX_LISTS)
    ]
    await until(lambda: reading == MAX_LISTS)
    for path in [*LISTS, "/v1/cost"]:
        response = await guarded.client.get(path, headers=bearer("admin"))
        if path != "/v1/cost":  # costs are off
            await problem_of(response, 429, "too-many-lists")
    other = asyncio.create_task(guarded.client.get("/v1/waits", headers=bearer("viewer")))
    await until(lambda: reading == MAX_LISTS + 1)
    proceed.set()
    for task in [*running, other]:
        assert (await task).status == 200
    assert (await guarded.client.get("/v1/waits", headers=bearer("admin"))).status == 200


async def test_a_reader_that_does_not_read_is_disconnected_and_frees_its_place(
    guarded: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await big_waits(guarded)
    monkeypatch.setattr(dependencies, "PAGE_BYTES", 1 << 40)
    limits: list[anyio.CancelScope] = []
    fail_after = anyio.fail_after

    @contextmanager
    def recorded(seconds: float) -> Iterator[anyio.CancelScope]:
        with fail_after(seconds) as limit:
            limits.append(limit)
            yield limit

    monkeypatch.setattr(anyio, "fail_after", recorded)
    token, reading = bearer("admin")["Authorization"].encode(), asyncio.Event()
    begun = 0

    async def read_late() -> bytes:
        nonlocal begun
        async with connected(guarded, limit=1) as (reader, writer):
            writer.write(REQUEST % token)
            answer = await reader.readexactly(12)
            begun += 1
            await reading.wait()
            with suppress(ConnectionError):
                while more := await reader.read(65_536):
                    answer += more
        return answer

    async def status() -> int:
        return (await guarded.client.get("/v1/waits?limit=1", headers=bearer("admin"))).status

    readers = [asyncio.create_task(read_late()) for _ in range(MAX_LISTS)]
    await until(lambda: begun == MAX_LISTS)
    assert await status() == 429
    held = limits.copy()
    for limit in held:
        assert limit.deadline <= anyio.current_time() + lists.LIST_SECONDS
        limit.deadline = anyio.current_time()
    await until(lambda: all(limit.cancelled_caught for limit in held))
    assert await status() == 200
    reading.set()
    for answer in await asyncio.gather(*readers):
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"next_page_token" not in answer
        assert not answer.endswith(b"0\r\n\r\n"), "it is cut, and not taken for whole"


async def test_what_a_reader_does_not_take_is_not_read_from_the_store(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await big_waits(api, 300)
    monkeypatch.setattr(dependencies, "PAGE_BYTES", 1 << 40)
    read: list[int] = []
    find = api.store.find

    async def counted_find(filter_: Any) -> Any:
        part = await find(filter_)
        read.append(sum(stored.spec_size for stored in part))
        return part

    monkeypatch.setattr(api.store, "find", counted_find)
    async with connected(api, limit=1) as (reader, writer):
        writer.write(REQUEST % b"none")
        await reader.readexactly(12)
        for _ in range(100):  # others are served meanwhile
            await api.get("/v1/limits")
        assert sum(read) < 8 * 2**20, "the buffers of the connection, and a part"
        rest = b""
        while b"next_page_token" not in rest:
            rest = rest[-100:] + await reader.read(1 << 16)
    assert sum(read) > 17 * 2**20


async def test_a_list_whose_rest_cannot_be_read_is_cut_and_not_taken_for_whole(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await big_waits(api, 20)
    find, calls = api.store.find, 0

    async def find_once(filter_: Any) -> Sequence[Any]:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise Unavailable("the disk is gone")
        return await find(filter_)

    monkeypatch.setattr(api.store, "find", find_once)
    response = await api.client.get("/v1/waits?limit=20")
    assert response.status == 200
    with pytest.raises(aiohttp.ClientError):
        await response.read()
    calls = 1
    await problem_of(await api.client.get("/v1/waits"), 503, "unavailable")


@pytest.mark.parametrize("budget", [1, 1000, 100_000])
@pytest.mark.parametrize("path", ["/v1/waits", "/v1/deliveries"])
async def test_a_part_that_the_store_cut_is_followed_by_the_rest(
    api: Api, path: str, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(api)
    expected, _ = await all_items(api, path, 1000)
    for module in (waits, deliveries):
        monkeypatch.setattr(module, "PART_BYTES", budget)
    for limit in (1, 3, 7, 1000):
        items, sizes = await all_items(api, path, limit)
        assert items == expected
        assert sizes == [min(limit, 7 - start) for start in range(0, 7, limit)]


async def test_a_list_never_has_more_rows_in_memory_than_a_part_although_the_first_are_small(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await big_waits(api, 100)
    for _ in range(lists.FIRST_PART):
        await api.submit()
    parts: list[int] = []
    find = api.store.find

    async def measured_find(filter_: Any) -> Any:
        part = await find(filter_)
        parts.append(sum(stored.spec_size for stored in part))
        return part

    monkeypatch.setattr(api.store, "find", measured_find)
    monkeypatch.setattr(dependencies, "PAGE_BYTES", 1 << 40)
    assert len((await api.get("/v1/waits", limit="1000"))["waits"]) == 108
    assert max(parts) < lists.PART_BYTES + 70_000
    assert len(parts) > 10


def test_parts_are_as_large_as_their_items_allow() -> None:
    assert next_part(8, 8 * 100) == lists.MAX_PART
    assert next_part(8, 8 * 60_000) == lists.PART_BYTES // 60_000
    assert next_part(1, 10_000_000) == 1
    assert next_part(0, 0) == 1


async def test_a_page_reads_few_large_items_at_a_time() -> None:
    size, numbers = 60_000, list[int]()

    async def find(before: int | None, number: int) -> list[int]:
        numbers.append(number)
        start = 0 if before is None else before + 1
        return list(range(start, start + number))

    page = Page(find, int, lambda _: "x" * size, None, 1000, most_bytes=100 * size)
    assert len([item async for item in page.encoded()]) == 100
    assert page.more
    assert max(numbers) * size < lists.PART_BYTES + size
