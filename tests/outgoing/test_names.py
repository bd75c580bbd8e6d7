"""The cache of names: TTLs, stale answers, and one look-up for all who ask."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import anyio
import pytest
from manual_clock import ManualClock
from structlog.testing import capture_logs

from waitd.outgoing import CachingResolver, LookupFailed, NameNotFound
from waitd.outgoing import names as names_module
from waitd.outgoing.names import CHECK_SECONDS, MAX_STALE, MAX_TTL, MIN_TTL, RETRY_SECONDS, Answer


@dataclass
class FakeLookup:
    """Answers with `answer`; an exception is raised. Without `open`, it hangs."""

    answer: Answer | Exception
    limit: int = 100
    servers: bool = False
    changed: bool = False
    asked: Counter[str] = field(default_factory=Counter)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def find(self, host: str) -> Answer:
        self.asked[host] += 1
        answer = self.answer
        await self.open.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def servers_answer(self) -> bool:
        self.asked["servers"] += 1
        return self.servers

    def has_changed(self) -> bool:
        changed, self.changed = self.changed, False
        return changed

    async def close(self) -> None:
        pass


def answer(*addresses: str, ttl: float = 60) -> Answer:
    return Answer([(socket.AF_INET6 if ":" in each else socket.AF_INET, each) for each in addresses], ttl)


class Setup:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.lookup = FakeLookup(answer("127.0.0.1"))
        self.lookup.open.set()
        self.counts: Counter[str] = Counter()
        self.names = CachingResolver(
            self.lookup, now=self.clock, count=lambda result: self.counts.update([result])
        )

    async def resolve(self, host: str = "x.example", **options: socket.AddressFamily) -> Sequence[str]:
        with anyio.fail_after(30):
            return [found["host"] for found in await self.names.resolve(host, 80, **options)]


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    setup = Setup()
    yield setup
    await setup.names.close()


@pytest.mark.parametrize(
    ("ttl", "kept"), [(0, MIN_TTL), (1, MIN_TTL), (60, 60), (10**6, MAX_TTL), (2**31 - 1, MAX_TTL)]
)
async def test_an_answer_holds_for_its_ttl_within_bounds(setup: Setup, ttl: float, kept: float) -> None:
    setup.lookup.answer = answer("127.0.0.1", ttl=ttl)
    await setup.resolve()
    setup.lookup.answer = answer("127.0.0.2")
    setup.clock.at += kept - 0.01
    assert await setup.resolve() == ["127.0.0.1"]
    setup.clock.at += 0.02
    assert await setup.resolve() == ["127.0.0.2"]
    assert setup.lookup.asked["x.example"] == 2


async def test_names_differ_neither_by_case_nor_by_port(setup: Setup) -> None:
    await setup.names.resolve("X.Example", 80)
    [found] = await setup.names.resolve("x.EXAMPLE", 443)
    assert (found["hostname"], found["port"], found["family"]) == ("x.EXAMPLE", 443, socket.AF_INET)
    assert setup.lookup.asked == {"x.example": 1}


async def test_connections_take_turns_among_the_addresses(setup: Setup) -> None:
    setup.lookup.answer = answer("::1", "127.0.0.1", "127.0.0.2")
    firsts = [(await setup.resolve())[0] for _ in range(4)]
    assert firsts == ["::1", "127.0.0.1", "127.0.0.2", "::1"]
    assert await setup.resolve(family=socket.AF_INET6) == ["::1"]
    setup.lookup.answer = answer("127.0.0.1")
    with pytest.raises(NameNotFound):
        await setup.resolve("four.example", family=socket.AF_INET6)


async def test_all_who_ask_share_one_look_up(setup: Setup) -> None:
    setup.lookup.open.clear()
    asking = [asyncio.create_task(setup.resolve()) for _ in range(100)]
    await asyncio.sleep(0)
    asking[0].cancel()  # the others get their answer all the same
    await asyncio.sleep(0)
    setup.lookup.open.set()
    assert await asyncio.gather(*asking[1:]) == [["127.0.0.1"]] * 99
    assert setup.lookup.asked == {"x.example": 1}


@pytest.mark.parametrize(("error", "result"), [(NameNotFound(), "not_found"), (LookupFailed(), "failed")])
async def test_a_failure_is_remembered_shortly(setup: Setup, error: Exception, result: str) -> None:
    setup.lookup.answer = error
    for _ in range(3):
        with pytest.raises(type(error)):
            await setup.resolve()
    assert setup.counts == {result: 1}
    setup.lookup.answer = answer("127.0.0.1")
    setup.clock.at += RETRY_SECONDS
    assert await setup.resolve() == ["127.0.0.1"]


@pytest.mark.parametrize(("servers", "number"), [(True, socket.EAI_FAIL), (False, socket.EAI_AGAIN)])
async def test_a_name_is_to_blame_if_the_servers_answer_about_others(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, servers: bool, number: int
) -> None:
    monkeypatch.setattr(names_module, "LOOKUP_SECONDS", 0.05)
    setup.lookup.servers, setup.lookup.answer = servers, LookupFailed()
    for host in ("fails.example", "fails.example", "hangs.example"):
        if host == "hangs.example":
            setup.lookup.open.clear()
        with pytest.raises(LookupFailed) as raised:
            await setup.resolve(host)
        assert raised.value.errno == number
    assert setup.lookup.asked["servers"] == 1


async def test_the_last_answer_is_used_on_while_look_ups_fail(setup: Setup) -> None:
    await setup.resolve()
    setup.lookup.answer = LookupFailed("planted")
    with capture_logs() as logs:
        for _ in range(3):
            setup.clock.at += 60
            assert await setup.resolve() == ["127.0.0.1"]
    assert setup.counts == {"found": 1, "stale": 3}
    assert [(log["event"], log["host"]) for log in logs] == [("name_is_stale", "x.example")]
    setup.clock.at += MAX_STALE
    with pytest.raises(LookupFailed):
        await setup.resolve()


async def test_a_name_that_is_gone_is_not_used_on(setup: Setup) -> None:
    await setup.resolve()
    setup.lookup.answer = NameNotFound()
    setup.clock.at += 61
    with pytest.raises(NameNotFound):
        await setup.resolve()


async def test_a_look_up_that_hangs_ends_in_time(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "LOOKUP_SECONDS", 0.05)
    monkeypatch.setattr(names_module, "STALE_AFTER", 0.05)
    await setup.resolve("known.example")
    setup.lookup.open.clear()
    with pytest.raises(LookupFailed):
        await setup.resolve()
    setup.clock.at += 61
    assert await setup.resolve("known.example") == ["127.0.0.1"]  # the last answer
    with pytest.raises(LookupFailed):
        await setup.resolve()
    assert setup.lookup.asked == {"known.example": 2, "x.example": 1, "servers": 2}  # it still looks


async def test_look_ups_of_unknown_names_are_limited(setup: Setup) -> None:
    await setup.resolve("known.example")
    setup.clock.at += 61
    setup.lookup.open.clear()
    hung = [asyncio.create_task(setup.resolve(f"{number}.example")) for number in range(100)]
    await asyncio.sleep(0)
    with pytest.raises(LookupFailed):
        await setup.resolve("one.more.example")
    known = asyncio.create_task(setup.resolve("known.example"))
    await asyncio.sleep(0)
    setup.lookup.open.set()
    assert await known == ["127.0.0.1"]
    await asyncio.gather(*hung)
    assert setup.counts["refused"] == 1


async def test_a_changed_configuration_is_seen(setup: Setup) -> None:
    await setup.resolve()
    setup.lookup.answer, setup.lookup.changed = answer("127.0.0.2"), True
    assert await setup.resolve() == ["127.0.0.1"]
    setup.clock.at += CHECK_SECONDS
    assert await setup.resolve() == ["127.0.0.2"]


async def test_a_look_up_by_the_old_configuration_is_not_waited_for(setup: Setup) -> None:
    setup.lookup.open.clear()
    old = asyncio.create_task(setup.resolve())
    await asyncio.sleep(0)
    setup.lookup.answer, setup.lookup.changed = answer("127.0.0.2"), True
    setup.clock.at += CHECK_SECONDS
    new = asyncio.create_task(setup.resolve())
    await asyncio.sleep(0)
    setup.lookup.open.set()
    assert await new == ["127.0.0.2"]
    await old
    assert await setup.resolve() == ["127.0.0.2"]


async def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "MAX_NAMES", 3)
    setup = Setup()
    for number in range(5):
        await setup.resolve(f"{number}.example")
    await setup.resolve("4.example")
    await setup.resolve("0.example")
    assert setup.lookup.asked["4.example"] == 1
    assert setup.lookup.asked["0.example"] == 2
