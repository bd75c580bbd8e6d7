"""A soak of seconds: after each round the daemon has what it had before. Nothing here depends on how fast the machine is."""

import pytest

from waitd.bench.profiles import Load
from waitd.bench.soak import DESCRIPTOR_SLACK, RSS_SLACK, SoakRound, complaints, soak

FLAT = SoakRound(1.0, 100 * 2**20, 20, 0, 0, 0.1, good=True)


class Silent:
    def step(self, text: str) -> None:
        """Nobody listens."""

    broke = step

    def progress(self, done: int, total: int, text: str) -> None:
        """Nobody looks."""


@pytest.mark.slow
async def test_memory_descriptors_and_what_is_held_come_back_to_where_they_were() -> None:
    rests = await soak(Silent(), Load(60, 0.5, 4, profile="storm"), minutes=0, rounds=2)
    assert len(rests) == 2
    assert all(rest.rss > 0 and rest.descriptors > 0 for rest in rests)
    assert complaints(rests) == []


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (FLAT._replace(rss=int(FLAT.rss * 1.1) + RSS_SLACK + 1), "memory grew"),
        (FLAT._replace(descriptors=FLAT.descriptors + DESCRIPTOR_SLACK + 1), "descriptors grew"),
        (FLAT._replace(held=1), "1 waits are still held after round 2"),
        (FLAT._replace(in_flight=2), "2 pokes are still in flight"),
        (FLAT._replace(good=False), "round 2 lost something"),
    ],
)
def test_whatever_grows_is_complained_of(last: SoakRound, said: str) -> None:
    assert complaints([FLAT, FLAT]) == []
    [complaint] = complaints([FLAT, last])
    assert said in complaint
