"""A daemon detects that its database is on an ephemeral volume, also on real mounts."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pytest
from daemon import daemon

from waitd.client import Client
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


def assert_reason(actual: str | None, expected: str | None) -> None:
    """Asserts that the reason contains `expected`; None: that there is no reason."""
    assert actual is None if expected is None else expected in str(actual)


@pytest.mark.parametrize(
    ("url", "setting", "reason"),
    [
        pytest.param(sqlite(SHM), "auto", "memory", marks=needs_tmpfs),
        pytest.param(sqlite(SHM), False, None, marks=needs_tmpfs),
        (sqlite(Path("/")), True, "state_ephemeral"),
        ("sqlite+aiosqlite:///:memory:", "auto", "memory"),
        ("postgresql+asyncpg://waitd@db/waitd", "auto", None),
        ("postgresql+asyncpg://waitd@db/waitd", True, None),
    ],
)
def test_the_setting_the_url_or_the_mount_makes_a_store_ephemeral(
    url: str, setting: bool | Literal["auto"], reason: str | None
) -> None:
    assert_reason(ephemeral_state(url, setting), reason)


def test_a_directory_that_cannot_be_checked_is_not_called_ephemeral(tmp_path: Path) -> None:
    assert ephemeral_mount(tmp_path / "nowhere") is None


def test_the_root_of_a_container_is_ephemeral_in_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert ephemeral_mount(Path("/")) is not None


def test_fdinfo_names_the_mount_of_an_open_file() -> None:
    assert mount_id("pos:\t0\nflags:\t02100000\nmnt_id:\t721\nino:\t2\n") == 721
    assert mount_id("pos:\t0\nflags:\t02100000\n") is None


def test_a_mountinfo_line_is_parsed_with_optional_fields_and_escapes() -> None:
    assert find_mount(721, MOUNTINFO) == Mount("/", "/var/lib/waitd", "ext4")
    assert find_mount(723, MOUNTINFO) == Mount("/docker/volumes/waitd-state/_data", "/named", "ext4")
    assert find_mount(724, MOUNTINFO) == Mount("/", "/with space\\and\tmore", "tmpfs")


@pytest.mark.parametrize("number", [1, 72, 725])
def test_a_missing_or_truncated_mount_is_none(number: int) -> None:
    assert find_mount(number, MOUNTINFO) is None


BTRFS_ROOT = Mount("/@/var/lib/docker/btrfs/subvolumes/1", "/", "btrfs")


@pytest.mark.parametrize(
    ("mount", "in_pod", "reason"),
    [
        (find_mount(705, MOUNTINFO), True, "container's own layer"),
        (find_mount(711, MOUNTINFO), True, "memory"),
        (find_mount(720, MOUNTINFO), True, "emptyDir"),
        (find_mount(722, MOUNTINFO), True, "anonymous"),
        (find_mount(724, MOUNTINFO), True, "memory"),
        (find_mount(721, MOUNTINFO), True, None),
        (find_mount(721, MOUNTINFO), False, None),
        (find_mount(723, MOUNTINFO), True, None),
        (find_mount(723, MOUNTINFO), False, None),
        (BTRFS_ROOT, True, "pod"),
        (BTRFS_ROOT, False, None),
    ],
)
def test_ephemeral_mounts_are_recognized(mount: Mount, in_pod: bool, reason: str | None) -> None:
    assert_reason(ephemeral_reason(mount, in_pod=in_pod), reason)


@needs_tmpfs
@pytest.mark.slow
async def test_a_daemon_on_a_tmpfs_logs_an_error_and_sets_its_metric() -> None:
    with TemporaryDirectory(dir=SHM) as directory:
        async with daemon(Path(directory)) as waitd, Client(waitd.url) as client:
            event = await waitd.logged("state_is_ephemeral")
            assert event["level"] == "error"
            assert "memory" in event["why"]
            assert "waitd_state_ephemeral 1.0" in await client.metrics()


@pytest.mark.slow
async def test_a_daemon_on_a_persistent_volume_logs_no_error_and_reports_its_build(tmp_path: Path) -> None:
    environment = {"WAITD_STATE_EPHEMERAL": "false", "WAITD_BUILD": "0123abc"}
    async with daemon(tmp_path, **environment) as waitd, Client(waitd.url) as client:
        assert (await waitd.logged("serving"))["build"] == "0123abc"
        assert "state_is_ephemeral" not in {event.get("event") for event in waitd.log}
        metrics = await client.metrics()
    assert "waitd_state_ephemeral 0.0" in metrics
    assert 'waitd_build_info{build="0123abc",version=' in metrics
