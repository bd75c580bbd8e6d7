"""What the kernel says about the volume that a file lies on, and whether it is one that ends with a container or a reboot.

Reads the text of `/proc/self/fdinfo/N` and `/proc/self/mountinfo` (proc_pid_mountinfo(5)); whoever has those files hands them in.
"""

import re
from typing import NamedTuple

#: File systems whose content is gone with the machine's memory, or with the container whose own layer they are.
VOLATILE = {
    "tmpfs": "a tmpfs: it lies in memory, and is empty after a restart of the pod or the machine",
    "ramfs": "a ramfs: it lies in memory, and is empty after a restart of the machine",
    "rootfs": "the initial root file system, which lies in memory",
    "overlay": "an overlay: the container's own layer, which is deleted with the container",
    "aufs": "an aufs: the container's own layer, which is deleted with the container",
    "fuse.fuse-overlayfs": "an overlay: the container's own layer, which is deleted with the container",
}
#: Where the container managers keep volumes that belong to one pod or one container.
EMPTY_DIR = re.compile(r"/volumes/kubernetes\.io~empty-dir/")
ANONYMOUS_VOLUME = re.compile(r"/volumes/[0-9a-f]{64}/_data(/|$)")
_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """One line of mountinfo.

    Attributes:
        root: the directory of the file system that is mounted; "/" is the whole of it.
        mount_point: where it is seen.
        file_system: its type, e.g. ext4.
    """

    root: str
    mount_point: str
    file_system: str


def mount_id(fdinfo: str) -> int | None:
    """The mount that an open file lies on, from its fdinfo; None where the kernel does not say."""
    found = re.search(r"^mnt_id:\s*(\d+)$", fdinfo, re.MULTILINE)
    return int(found[1]) if found else None


def mount_with(number: int, mountinfo: str) -> Mount | None:
    """The mount of this id; None where there is no such line, or it cannot be read."""
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if fields[0] == str(number) and "-" in fields[6:]:
            file_system = fields[fields.index("-", 6) + 1]
            return Mount(_plain(fields[3]), _plain(fields[4]), file_system)
    return None


def _plain(field: str) -> str:
    """A path without mountinfo's escapes for space, tab, newline and backslash."""
    return _OCTAL.sub(lambda escape: chr(int(escape[1], 8)), field)


def ephemeral_because(mount: Mount, *, in_pod: bool) -> str | None:
    """Why what lies on this mount will not be there for the next pod or container; None where nothing says so.

    None is no proof: a volume claim that is deleted with its pod looks from inside like any other disk.
    """
    if EMPTY_DIR.search(mount.root):
        return "a Kubernetes emptyDir: it is deleted with the pod"
    if ANONYMOUS_VOLUME.search(mount.root):
        return "a volume without a name: the next container gets another one"
    if mount.file_system in VOLATILE:
        return VOLATILE[mount.file_system]
    if in_pod and mount.mount_point == "/":
        return "the root file system of a pod's container, which is deleted with it"
    return None
