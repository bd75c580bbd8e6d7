"""A daemon detects that its database is on an ephemeral volume. Uses real directories on real mounts."""

from pathlib import Path

import aiohttp
import pytest
from daemon import daemon

from waitd.state_volume import (
    Mount,
    ephemeral_mount,
    ephemeral_reason,
    ephemeral_state,
    find_mount,
    mount_id,
)

SHM = Path("/dev/shm")
needs_tmpfs = pytest.mark.skipif(not SHM.is_dir(), reason="there is no tmpfs on this machine")
HEX = "6f" * 32
#: Lines as Docker, containerd and kubelet produce them.
MOUNTINFO = "\n".join(
    [
        "705 600 0:321 / / rw,relatime master:236 - overlay overlay rw,lowerdir=/var/lib/a,upperdir=/var/lib/b",
        "711 705 0:45 / /dev/shm rw,nosuid,nodev,noexec - tmpfs shm rw,size=65536k",
        "720 705 259:1 /var/lib/kubelet/pods/0a1b/volumes/kubernetes.io~empty-dir/state /state rw,noatime - xfs /dev/nvme0n1p1 rw",
        "721 705 8:16 / /var/lib/waitd rw,relatime - ext4 /dev/sdb rw",
        rf"722 705 8:1 /docker/volumes/{HEX}/_data /anonymous rw - ext4 /dev/sda1 rw",
        r"723 705 8:1 /docker/volumes/waitd-state/_data /named rw shared:1 master:2 - ext4 /dev/sda1 rw",
        r"724 705 0:50 / /with\040space\134and\011more rw - tmpfs tmpfs rw",
        "725 705 0:51 / /cut rw",
    ]
)


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


def mount(number: int) -> Mount:
    mount = find_mount(number, MOUNTINFO)
    assert mount is not None
    return mount


def test_fdinfo_names_the_mount_of_an_open_file() -> None:
    assert mount_id("pos:\t0\nflags:\t02100000\nmnt_id:\t721\nino:\t2\n") == 721
    assert mount_id("pos:\t0\nflags:\t02100000\n") is None


def test_a_mountinfo_line_is_parsed_with_optional_fields_and_escapes() -> None:
    assert mount(721) == Mount("/", "/var/lib/waitd", "ext4")
    assert mount(723) == Mount("/docker/volumes/waitd-state/_data", "/named", "ext4")
    assert mount(724) == Mount("/", "/with space\\and\tmore", "tmpfs")


@pytest.mark.parametrize("number", [1, 72, 725])
def test_a_missing_or_truncated_mount_is_none(number: int) -> None:
    assert find_mount(number, MOUNTINFO) is None


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (705, "container's own layer"),
        (711, "memory"),
        (720, "emptyDir"),
        (722, "anonymous"),
        (724, "memory"),
    ],
)
def test_ephemeral_volumes_are_recognized(number: int, word: str) -> None:
    assert word in str(ephemeral_reason(mount(number), in_pod=True))


@pytest.mark.parametrize("number", [721, 723])
@pytest.mark.parametrize("in_pod", [True, False])
def test_a_disk_and_a_named_volume_are_persistent(number: int, in_pod: bool) -> None:
    assert ephemeral_reason(mount(number), in_pod=in_pod) is None


def test_the_root_of_a_machine_is_persistent_and_the_root_of_a_pod_is_not() -> None:
    root = Mount("/@/var/lib/docker/btrfs/subvolumes/1", "/", "btrfs")
    assert ephemeral_reason(root, in_pod=False) is None
    assert "pod" in str(ephemeral_reason(root, in_pod=True))


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
