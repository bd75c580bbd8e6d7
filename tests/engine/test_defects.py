"""A defect that the engine meets in one wait changes nothing for the others."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from engine_harness import running_poker
from fakes import ScriptedProbe, ScriptedTarget, defect
from test_subscriptions import SubscribedWaits
from virtual_time import in_virtual_time

from waitd.core.waits.verdict import Pending, Success
from waitd.core.waits.wait import WaitState
from waitd.ports import Topic


@in_virtual_time
async def test_a_verdict_that_cannot_be_applied() -> None:
    """It is replaced by one that names the defect, also at the deadline."""

    class Grouped(ScriptedProbe):
        def parse(self, params: Any, *, namespace: str) -> ScriptedTarget:
            return replace(super().parse(params, namespace=namespace), key="one group")

        async def poke(self, group: Any) -> Any:
            return [object() if held.target.name == "bad" else Success() for held in group]

    async with running_poker(lambda *_: Success(), probe=Grouped) as harness:
        for name in ("good", "bad", "other"):
            harness.add(name, timeout=30.0)
        await asyncio.sleep(5)
        assert harness.state("good") is harness.state("other") is WaitState.SUCCESS
        assert harness.live("bad").progress.runs[-1].reason == "internal_error"
        await asyncio.sleep(60)
        assert harness.state("bad") is WaitState.TIMEOUT


@pytest.mark.parametrize("result", [[], [Success(), Success()], None])
@in_virtual_time
async def test_a_probe_that_gives_no_verdict_for_each_wait(result: Any) -> None:
    class TooFew(ScriptedProbe):
        async def poke(self, group: Any) -> Any:
            return result if group[0].target.name == "bad" else await super().poke(group)

    async with running_poker(lambda *_: Success(), probe=TooFew) as harness:
        for name in ("bad", "good"):
            harness.add(name)
        await asyncio.sleep(5)
        assert harness.state("good") is WaitState.SUCCESS
        assert harness.live("bad").progress.runs[-1].reason == "internal_error"


@in_virtual_time
async def test_an_origin_that_cannot_be_found() -> None:
    class NoOrigin(ScriptedProbe):
        def origin(self, target: Any) -> str:
            return defect() if target.name == "bad" else super().origin(target)

    async with running_poker(lambda *_: Pending(), probe=NoOrigin) as harness:
        for name in ("bad", "good"):
            harness.add(name)
        await asyncio.sleep(1)
        assert (harness.pokes("bad"), harness.pokes("good")) == (1, 1)
        waiting_on = harness.live("bad").waiting_on
        assert waiting_on is not None
        assert waiting_on.origin == "wait bad"


def test_a_pattern_that_cannot_be_matched() -> None:
    waits = SubscribedWaits()
    for name in ("b/a*", "b/a1*", "b/bad"):
        waits.add(name)
    channel = waits.subscriptions._channels["s3://b"]["default"]
    channel.add(Topic("default", "s3://b", "a", lambda _: defect()), "bad")
    assert waits.matching("b", "a1") == {"b/a*", "b/a1*", "bad"}
