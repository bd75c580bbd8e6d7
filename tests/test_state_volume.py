"""A daemon detects that its database is on an ephemeral volume. Uses real directories on real mounts."""

from pathlib import Path

import aiohttp
import pytest
from daemon import daemon

from waitd.state_volume import ephemeral_mount, ephemeral_state

SHM = Path("/dev/shm")
needs_tmpfs = pytest.mark.skipif(not SHM.is_dir(), reason="there is no tmpfs on this machine")


def sqlite(directory: Path) -> str:
    return f"sqlite+aiosqlite:///{directory}/waitd.db"


@needs_tmpfs
def test_a_tmpfs_is_ephemeral_unless_the_setting_denies_it() -> None:
    assert "memory" in str(ephemeral_state(sqlite(SHM), "auto"))
    assert ephemeral_state(sqlite(SHM), False) is None


def test_the_setting_alone_makes_any_volume_ephemeral(tmp_path: Path) -> None:
    assert "state_ephemeral" in str(ephemeral_state(sqlite(tmp_path), True))


def test_a_database_in_memory_is_ephemeral_and_a_database_server_is_not() -> None:
    assert "memory" in str(ephemeral_state("sqlite+aiosqlite:///:memory:", "auto"))
    assert ephemeral_state("postgresql+asyncpg://waitd@db/waitd", "auto") is None
    assert ephemeral_state("postgresql+asyncpg://waitd@db/waitd", True) is None


def test_a_directory_that_cannot_be_checked_is_not_called_ephemeral(tmp_path: Path) -> None:
    assert ephemeral_mount(tmp_path / "nowhere") is None


def test_the_root_of_a_container_is_ephemeral_in_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert ephemeral_mount(Path("/")) is not None


@needs_tmpfs
@pytest.mark.slow
async def test_a_daemon_on_a_tmpfs_logs_an_error_and_sets_its_metric(tmp_path: Path) -> None:
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(dir=SHM))
    try:
        async with daemon(folder) as waitd, aiohttp.ClientSession() as client:
            event = await waitd.logged("state_is_ephemeral")
            assert event["level"] == "error"
            assert "memory" in event["why"]
            async with client.get(f"{waitd.url}/metrics") as answer:
                assert "waitd_state_ephemeral 1.0" in await answer.text()
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
async def test_a_daemon_on_a_persistent_volume_logs_no_error_and_reports_its_build(tmp_path: Path) -> None:
    environment = {"WAITD_STATE_EPHEMERAL": "false", "WAITD_BUILD": "0123abc"}
    async with daemon(tmp_path, **environment) as waitd, aiohttp.ClientSession() as client:
        assert (await waitd.logged("serving"))["build"] == "0123abc"
        assert "state_is_ephemeral" not in {event.get("event") for event in waitd.log}
        async with client.get(f"{waitd.url}/metrics") as answer:
            metrics = await answer.text()
    assert "waitd_state_ephemeral 0.0" in metrics
    assert 'waitd_build_info{build="0123abc",version=' in metrics
