"""What a mount tells of the volume's life. The lines are as Docker, containerd and kubelet produce them."""

import pytest

from waitd.core.mounts import Mount, ephemeral_because, mount_id, mount_with

HEX = "6f" * 32
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


def mount(number: int) -> Mount:
    found = mount_with(number, MOUNTINFO)
    assert found is not None
    return found


def test_the_mount_of_an_open_file_is_named_by_its_fdinfo() -> None:
    assert mount_id("pos:\t0\nflags:\t02100000\nmnt_id:\t721\nino:\t2\n") == 721
    assert mount_id("pos:\t0\nflags:\t02100000\n") is None


def test_a_line_is_read_with_and_without_optional_fields_and_without_its_escapes() -> None:
    assert mount(721) == Mount("/", "/var/lib/waitd", "ext4")
    assert mount(723) == Mount("/docker/volumes/waitd-state/_data", "/named", "ext4")
    assert mount(724) == Mount("/", "/with space\\and\tmore", "tmpfs")


@pytest.mark.parametrize("number", [1, 72, 725])
def test_a_mount_that_is_not_there_or_cut_off_is_none(number: int) -> None:
    assert mount_with(number, MOUNTINFO) is None


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (705, "container's own layer"),
        (711, "memory"),
        (720, "emptyDir"),
        (722, "without a name"),
        (724, "memory"),
    ],
)
def test_volumes_that_end_with_the_pod_or_the_machine_are_told(number: int, word: str) -> None:
    because = ephemeral_because(mount(number), in_pod=True)
    assert because is not None
    assert word in because


@pytest.mark.parametrize("number", [721, 723])
@pytest.mark.parametrize("in_pod", [True, False])
def test_a_disk_of_its_own_and_a_named_volume_are_kept(number: int, in_pod: bool) -> None:
    assert ephemeral_because(mount(number), in_pod=in_pod) is None


def test_the_root_of_a_machine_is_kept_and_that_of_a_pod_is_not() -> None:
    root = Mount("/@/var/lib/docker/btrfs/subvolumes/1", "/", "btrfs")
    assert ephemeral_because(root, in_pod=False) is None
    assert "pod" in str(ephemeral_because(root, in_pod=True))
