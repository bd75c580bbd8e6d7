"""Which waits subscribe to which topics, and what a look-up costs."""

import re
from collections.abc import Sequence
from dataclasses import replace
from time import process_time
from typing import Any

from fakes import ScriptedProbe, waiting
from msgspec import structs

from waitd.core.waits.verdict import Pending
from waitd.core.waits.wait import VerdictRun
from waitd.engine.held_wait import HeldWait
from waitd.engine.held_wait_factory import HeldWaitFactory
from waitd.engine.subscriptions import SIGNAL, Subscriptions
from waitd.metrics import Instruments
from waitd.ports import StoredWait, Topic


class SubscribingProbe(ScriptedProbe):
    """Its targets' names are their topics: `BUCKET/KEY`, with * for a pattern."""

    def topics(self, target: Any) -> Sequence[Topic]:
        bucket, _, key = target.name.partition("/")
        channel = f"s3://{bucket}"
        if "*" not in key:
            return [Topic("default", channel, key)]
        pattern = re.compile(key.replace("*", ".*"))
        return [Topic("default", channel, key.partition("*")[0], lambda name: bool(pattern.fullmatch(name)))]


class SubscribedWaits:
    """Held waits by their names, and their subscriptions."""

    def __init__(self, probe: type[SubscribingProbe] = SubscribingProbe) -> None:
        probes = {"scripted": probe(lambda *_: Pending(), lambda: 0.0)}
        self.factory = HeldWaitFactory(probes, Instruments(version="test"), None)
        self.subscriptions = Subscriptions()
        self.held: dict[str, HeldWait] = {}

    def add(self, name: str, wait: StoredWait | None = None) -> bool:
        wait = wait or waiting(name, 0.0)
        self.held[name] = self.factory.create(wait)
        return self.subscriptions.add(self.held[name], wait)

    def remove(self, name: str) -> None:
        self.subscriptions.remove(self.held.pop(name))

    def matching(self, bucket: str, key: str, namespace: str | None = "default") -> set[str]:
        return set(self.subscriptions.matching(f"s3://{bucket}", key, namespace))


def test_an_object_matches_its_key_and_the_patterns_that_fit() -> None:
    waits = SubscribedWaits()
    for name in ("b/a/1", "b/a/2", "c/a/1", "b/a/*", "b/*.csv", "b/a/1*"):
        waits.add(name)
    assert waits.matching("b", "a/1") == {"b/a/1", "b/a/*", "b/a/1*"}
    assert waits.matching("b", "a/2") == {"b/a/2", "b/a/*"}
    assert waits.matching("b", "x.csv") == {"b/*.csv"}
    assert waits.matching("c", "a/1") == {"c/a/1"}
    assert waits.matching("d", "a/1") == set()


def test_a_removed_wait_matches_nothing_and_leaves_nothing_behind() -> None:
    waits = SubscribedWaits()
    for name in ("b/a", "b/a/*", "b/b/*", "c/a"):
        waits.add(name)
    waits.remove("b/a/*")
    assert waits.matching("b", "a/x") == set()
    for name in ("b/a", "b/b/*", "c/a"):
        waits.remove(name)
    assert waits.subscriptions._channels == {}


def test_several_waits_subscribe_to_one_key() -> None:
    waits = SubscribedWaits()
    for name in ("one", "two", "three"):
        waits.add(name, structs.replace(waiting(name, 0.0), spec=waiting("b/k", 0.0).spec))
    assert waits.matching("b", "k") == {"one", "two", "three"}
    waits.remove("two")
    assert waits.matching("b", "k") == {"one", "three"}
    waits.remove("one")
    waits.remove("three")
    assert waits.matching("b", "k") == set()


def test_news_of_one_namespace_reaches_its_waits_and_news_of_none_reaches_all() -> None:
    waits = SubscribedWaits()
    waits.add("b/k")
    assert waits.matching("b", "k", "other") == set()
    assert waits.matching("b", "k", None) == {"b/k"}


def test_wake_on_subscribes_to_a_signal_and_notices_an_earlier_one() -> None:
    waits = SubscribedWaits()
    wait = waiting("b/k", 0.0)
    wait = structs.replace(wait, spec=structs.replace(wait.spec, wake_on="go"))
    assert waits.add("b/k", wait) is False
    assert waits.subscriptions.matching(SIGNAL, "go", "default") == {"b/k"}
    waits.remove("b/k")
    assert waits.subscriptions.matching(SIGNAL, "go", "default") == frozenset()
    waits.subscriptions.signalled_at["default", "go"] = 50.0
    assert waits.add("b/k", wait) is True
    waits.remove("b/k")
    poked = replace(wait.progress, runs=(VerdictRun("pending", "r", "", 60.0, 60.0, 1),))
    assert waits.add("b/k", structs.replace(wait, progress=poked)) is False, "it was poked since"


def test_a_look_up_among_a_hundred_thousand_waits_is_fast() -> None:
    waits = SubscribedWaits()
    for n in range(100_000):
        waits.add(f"b/day{n}/*" if n % 2 else f"b/key{n}")
    started = process_time()
    for n in range(0, 2000, 2):
        assert waits.matching("b", f"key{n}") == {f"b/key{n}"}
        assert waits.matching("b", f"day{n + 1}/x") == {f"b/day{n + 1}/*"}
    # 2,000 look-ups; a walk over the waits would take minutes.
    assert process_time() - started < 20


def test_a_wait_that_lists_a_topic_twice_matches_once_and_is_removed_completely() -> None:
    class ProbeWithDoubleTopics(SubscribingProbe):
        def topics(self, target: Any) -> Sequence[Topic]:
            return [*super().topics(target), *super().topics(target)]

    waits = SubscribedWaits(ProbeWithDoubleTopics)
    for name in ("b/k", "b/p*", "b/k2"):
        waits.add(name)
    assert (waits.matching("b", "k"), waits.matching("b", "px")) == ({"b/k"}, {"b/p*"})
    for name in ("b/k", "b/p*", "b/k2"):
        waits.remove(name)
    assert waits.subscriptions._channels == {}


def test_a_wait_that_never_subscribed_can_be_removed() -> None:
    waits = SubscribedWaits()
    waits.subscriptions.remove(waits.factory.create(waiting("b/k", 0.0)))
    assert waits.subscriptions._channels == {}
