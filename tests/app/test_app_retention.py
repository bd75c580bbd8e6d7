"""What a daemon keeps that was built from its settings."""

import asyncio
from pathlib import Path

from waitd.app import open_daemon
from waitd.core.auth.principal import LOOPBACK_PRINCIPAL
from waitd.core.auth.quotas import Kept
from waitd.core.waits.audit import Caller, build_audit_entry
from waitd.core.waits.wait import Outcome, Progress, WaitSpec, WaitState
from waitd.ports import AuditFilter, Inserted, NewWait, UnstoredOutcome
from waitd.settings import Settings

SPEC = WaitSpec(
    kind="http",
    params={"endpoint": "http://127.0.0.1:9/job"},
    poke_interval=60.0,
    timeout=60.0,
    sinks=(),
    labels={"fill": "x" * 200},
)


async def test_a_sweep_keeps_ended_waits_and_the_audit_within_their_settings(tmp_path: Path) -> None:
    most = 5_000
    settings = Settings(state_dir=tmp_path, retention_bytes=most, audit_entries=1000)
    async with open_daemon(settings) as daemon:
        store = daemon.engine.store
        entry = build_audit_entry(Caller(LOOPBACK_PRINCIPAL, ""), daemon.engine.clock.now(), "poke", "some")
        await asyncio.gather(*(store.save_audit_entry(entry) for _ in range(1010)))
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
        assert len(await store.find_audit(AuditFilter(limit=2000))) == 1000
