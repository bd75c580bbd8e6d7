"""Who hears which news, and at what cost."""

import re
from collections.abc import Sequence
from dataclasses import replace
from time import process_time
from typing import Any

from fakes import ScriptedProbe, waiting
from msgspec import structs

from waitd.core.waits.schedule import Pacing
from waitd.core.waits.verdict import Pending
from waitd.core.waits.wait import VerdictRun
from waitd.engine.held_wait import HeldWait, ProbeKind
from waitd.engine.listeners import SIGNAL, Listeners
from waitd.metrics import Instruments
from waitd.ports import StoredWait, Topic


class ListeningProbe(ScriptedProbe):
    """Listens to what its targets are called: `BUCKET/KEY`, with * for a pattern."""

    def topics(self, target: Any) -> Sequence[Topic]:
        bucket, _, key = target.name.partition("/")
        place = f"s3://{bucket}"
        if "*" not in key:
            return [Topic("default", place, key)]
        pattern = re.compile(key.replace("*", ".*"))
        return [Topic("default", place, key.partition("*")[0], lambda name: bool(pattern.fullmatch(name)))]


class Scene:
    def __init__(self) -> None:
        probe = ListeningProbe(lambda *_: Pending(), lambda: 0.0)
        self.kind = ProbeKind("scripted", probe, Instruments(version="test"))
        self.listeners = Listeners()
        self.entries: dict[str, HeldWait] = {}

    def listen(self, name: str, wait: StoredWait | None = None) -> bool:
        wait = wait or waiting(name, 0.0)
        entry = HeldWait.from_stored(
            wait, self.kind, self.kind.probe.parse(wait.spec.params, namespace="default"), Pacing(10)
        )
        self.entries[name] = entry
        return self.listeners.add(entry, wait)

    def forget(self, name: str) -> None:
        self.listeners.remove(self.entries.pop(name))

    def matching(self, bucket: str, key: str, namespace: str | None = "default") -> set[str]:
        return set(self.listeners.matching(f"s3://{bucket}", key, namespace))


def test_exact_keys_and_patterns_hear_their_own_news_only() -> None:
    scene = Scene()
    for name in ("b/a/1", "b/a/2", "c/a/1", "b/a/*", "b/*.csv", "b/a/1*"):
        scene.listen(name)
    assert scene.matching("b", "a/1") == {"b/a/1", "b/a/*", "b/a/1*"}
    assert scene.matching("b", "a/2") == {"b/a/2", "b/a/*"}
    assert scene.matching("b", "x.csv") == {"b/*.csv"}
    assert scene.matching("c", "a/1") == {"c/a/1"}
    assert scene.matching("d", "a/1") == set()


def test_who_has_ended_hears_nothing_and_nothing_of_it_is_kept() -> None:
    scene = Scene()
    names = ["b/a", "b/a/*", "b/b/*", "c/a"]
    for name in names:
        scene.listen(name)
    scene.forget("b/a/*")
    assert scene.matching("b", "a/x") == set()
    for name in ("b/a", "b/b/*", "c/a"):
        scene.forget(name)
    assert scene.listeners._channels == {}


def test_several_may_listen_to_one_key() -> None:
    scene = Scene()
    wait = waiting("b/k", 0.0)
    for name in ("one", "two", "three"):
        entry = HeldWait.from_stored(
            wait, scene.kind, scene.kind.probe.parse({"name": "b/k"}, namespace="default"), Pacing(10)
        )
        entry.id = name  # type: ignore[assignment]
        scene.entries[name] = entry
        scene.listeners.add(entry, wait)
    assert scene.matching("b", "k") == {"one", "two", "three"}
    scene.forget("two")
    assert scene.matching("b", "k") == {"one", "three"}
    scene.forget("one")
    scene.forget("three")
    assert scene.matching("b", "k") == set()


def test_news_of_another_namespace_wakes_nobody_but_the_operators_do() -> None:
    scene = Scene()
    scene.listen("b/k")
    assert scene.matching("b", "k", "other") == set()
    assert scene.matching("b", "k", None) == {"b/k"}


def test_wake_on_listens_and_hears_what_came_before() -> None:

    scene = Scene()
    wait = waiting("b/k", 0.0)
    wait = structs.replace(wait, spec=structs.replace(wait.spec, wake_on="go"))
    assert scene.listen("b/k", wait) is False
    assert scene.listeners.matching(SIGNAL, "go", "default") == {"b/k"}
    scene.forget("b/k")
    assert scene.listeners.matching(SIGNAL, "go", "default") == frozenset()
    scene.listeners.signalled_at["default", "go"] = 50.0
    assert scene.listen("b/k", wait) is True
    scene.forget("b/k")
    seen = replace(wait.progress, runs=(VerdictRun("pending", "r", "", 60.0, 60.0, 1),))
    assert scene.listen("b/k", structs.replace(wait, progress=seen)) is False, "it was poked since"


def test_a_hundred_thousand_waits_cost_a_lookup_nothing() -> None:
    scene = Scene()
    for n in range(100_000):
        scene.listen(f"b/day{n}/*" if n % 2 else f"b/key{n}")
    started = process_time()
    for n in range(0, 2000, 2):
        assert scene.matching("b", f"key{n}") == {f"b/key{n}"}
        assert scene.matching("b", f"day{n + 1}/x") == {f"b/day{n + 1}/*"}
    # 2,000 look-ups; a walk over the waits would take minutes.
    assert process_time() - started < 2.0


def test_a_wait_that_listens_twice_to_one_key_hears_it_once_and_is_let_go_of_whole() -> None:
    class Twice(ListeningProbe):
        def topics(self, target: Any) -> Sequence[Topic]:
            return [*super().topics(target), *super().topics(target)]

    scene = Scene()
    scene.kind = ProbeKind("scripted", Twice(lambda *_: Pending(), lambda: 0.0), Instruments(version="test"))
    for name in ("b/k", "b/p*", "b/k2"):
        scene.listen(name)
    assert (scene.matching("b", "k"), scene.matching("b", "px")) == ({"b/k"}, {"b/p*"})
    for name in ("b/k", "b/p*", "b/k2"):
        scene.forget(name)
    assert scene.listeners._channels == {}


def test_what_never_listened_may_be_let_go_of() -> None:
    scene = Scene()
    wait = waiting("b/k", 0.0)
    target = scene.kind.probe.parse(wait.spec.params, namespace="default")
    scene.listeners.remove(HeldWait.from_stored(wait, scene.kind, target, Pacing(10)))
    assert scene.listeners._channels == {}
