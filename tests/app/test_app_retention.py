"""Ended waits of a daemon that was built from its settings."""

from pathlib import Path

from waitd.app import open_daemon
from waitd.core.auth.quotas import Kept
from waitd.core.waits.wait import Outcome, Progress, WaitSpec, WaitState
from waitd.ports import Inserted, NewWait, UnstoredOutcome
from waitd.settings import Settings

SPEC = WaitSpec(
    kind="http",
    params={"endpoint": "http://127.0.0.1:9/job"},
    poke_interval=60.0,
    timeout=60.0,
    sinks=(),
    labels={"fill": "x" * 200},
)


async def test_a_sweep_keeps_ended_waits_within_retention_bytes(tmp_path: Path) -> None:
    most = 5_000
    async with open_daemon(Settings(state_dir=tmp_path, retention_bytes=most)) as daemon:
        store = daemon.engine.store
        for added in await store.insert([NewWait("default", SPEC) for _ in range(20)]):
            assert isinstance(added, Inserted)
            end = UnstoredOutcome(
                added.wait.id, Progress(), Outcome(WaitState.SUCCESS), daemon.engine.clock.now()
            )
            assert await store.finish(end)
        assert store.usage.get(Kept.ENDED_BYTES, "default") > 2 * most
        await daemon.engine.maintenance.sweep()
        assert most // 2 < store.usage.get(Kept.ENDED_BYTES, "default") <= most
        assert 0 < store.usage.get(Kept.ENDED_WAITS, "default") < 20
