"""A soak of two short rounds; nothing depends on the speed of the machine."""

import pytest
from fakes import SilentDisplay
from soak import DESCRIPTOR_SLACK, RSS_SLACK, SoakRound, complaints, soak

from waitd.bench.profiles import Load

FLAT = SoakRound(1.0, 100 * 2**20, 20, 0, 0, 0.1, good=True)


@pytest.mark.slow
@pytest.mark.long
async def test_memory_descriptors_and_held_waits_do_not_grow() -> None:
    rounds = await soak(SilentDisplay(), Load(60, 0.5, 4, profile="storm"), minutes=0, rounds=2)
    assert len(rounds) == 2
    assert all(r.rss > 0 and r.descriptors > 0 for r in rounds)
    assert complaints(rounds) == []


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (FLAT._replace(rss=int(FLAT.rss * 1.1) + RSS_SLACK + 1), "memory grew"),
        (FLAT._replace(descriptors=FLAT.descriptors + DESCRIPTOR_SLACK + 1), "descriptors grew"),
        (FLAT._replace(held=1), "1 waits are still held after round 2"),
        (FLAT._replace(in_flight=2), "2 pokes are still in flight"),
        (FLAT._replace(good=False), "round 2 lost a wait"),
    ],
)
def test_growth_and_losses_are_complaints(last: SoakRound, words: str) -> None:
    assert complaints([FLAT, FLAT]) == []
    [complaint] = complaints([FLAT, last])
    assert words in complaint
