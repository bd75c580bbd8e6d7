"""The pool of shared clients."""

import asyncio

import pytest

from waitd.sinks.client_pool import ClientPool


class Client:
    def __init__(self) -> None:
        self.usable = True
        self.closed = False

    async def close(self) -> None:
        self.closed = True


class Pool:
    """A pool of two clients, which open once `gate` is set, and fail while `broken`."""

    def __init__(self, *, open_seconds: float = 60.0) -> None:
        self.pool: ClientPool[Client] = ClientPool(
            Client.close, lambda client: client.usable, max_clients=2, open_seconds=open_seconds
        )
        self.opened: list[Client] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False

    async def open(self) -> Client:
        await self.gate.wait()
        if self.broken:
            raise ConnectionError
        self.opened.append(Client())
        return self.opened[-1]

    async def use(self, key: str = "k", built_from: object = 1) -> Client:
        async with self.pool.use(key, built_from, self.open) as client:
            await asyncio.sleep(0)
            return client


@pytest.fixture
def pool() -> Pool:
    return Pool()


async def test_concurrent_callers_share_one_client(pool: Pool) -> None:
    assert len({id(client) for client in await asyncio.gather(*(pool.use() for _ in range(20)))}) == 1


async def test_cancelling_one_caller_does_not_affect_the_others(pool: Pool) -> None:
    pool.gate.clear()
    first, second = asyncio.create_task(pool.use()), asyncio.create_task(pool.use())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    pool.gate.set()
    assert await second is pool.opened[0]
    assert len(pool.opened) == 1


async def test_every_caller_gets_the_error_and_the_next_one_opens_again(pool: Pool) -> None:
    pool.broken = True
    results = await asyncio.gather(*(pool.use() for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [ConnectionError] * 3
    pool.broken = False
    assert await pool.use() is pool.opened[0]


async def test_a_new_version_replaces_the_client_which_closes_after_its_last_use(pool: Pool) -> None:
    async with pool.pool.use("k", 1, pool.open) as old:
        new = await pool.use(built_from=2)
        await asyncio.sleep(0.01)
        assert new is not old
        assert [old.closed] == [False]
    await asyncio.sleep(0.01)
    assert old.closed
    assert not new.closed


async def test_a_discarded_or_unusable_client_is_not_used_again(pool: Pool) -> None:
    first = await pool.use()
    pool.pool.discard("k", first)
    second = await pool.use()
    pool.pool.discard("k", first)  # by another caller of the first client: the second one stays
    assert await pool.use() is second
    second.usable = False
    third = await pool.use()
    await asyncio.sleep(0.01)
    assert [client.closed for client in (first, second, third)] == [True, True, False]


async def test_the_least_recently_used_client_is_closed_at_the_limit(pool: Pool) -> None:
    a, b = await pool.use("a"), await pool.use("b")
    await pool.use("a")
    await pool.use("c")
    await asyncio.sleep(0.01)
    assert (a.closed, b.closed) == (False, True)


async def test_opening_times_out() -> None:
    pool = Pool(open_seconds=0.01)
    pool.gate.clear()
    with pytest.raises(TimeoutError):
        await pool.use()


async def test_closing_the_pool_ends_used_and_opening_clients(pool: Pool) -> None:
    async with pool.pool.use("a", 1, pool.open) as used:
        pool.gate.clear()
        waiting = asyncio.create_task(pool.use("b"))
        await asyncio.sleep(0)
        await pool.pool.aclose()
        assert used.closed
    with pytest.raises(asyncio.CancelledError):
        await waiting
