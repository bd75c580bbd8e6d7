"""Detects whether the volume with the SQLite file is deleted with the pod, container or machine.

It parses `/proc/self/fdinfo/N` and `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
"""

import os
import re
from pathlib import Path
from typing import Literal, NamedTuple

from sqlalchemy.engine import make_url

#: Kubernetes sets this variable in every container.
KUBERNETES = "KUBERNETES_SERVICE_HOST"
#: File systems in memory, and those of a container's own layer.
VOLATILE = {
    "tmpfs": "a tmpfs: it is in memory, and is empty after a restart of the pod or the machine",
    "ramfs": "a ramfs: it is in memory, and is empty after a restart of the machine",
    "rootfs": "the initial root file system, which is in memory",
    "overlay": "an overlay: the container's own layer, which is deleted with the container",
    "aufs": "an aufs: the container's own layer, which is deleted with the container",
    "fuse.fuse-overlayfs": "an overlay: the container's own layer, which is deleted with the container",
}
#: Where container managers keep volumes that belong to one pod or one container.
EMPTY_DIR = re.compile(r"/volumes/kubernetes\.io~empty-dir/")
ANONYMOUS_VOLUME = re.compile(r"/volumes/[0-9a-f]{64}/_data(/|$)")
_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """One line of mountinfo.

    Attributes:
        root: the mounted directory of the file system; "/" is all of it.
        mount_point: where it is mounted.
        file_system: its type, e.g. ext4.
    """

    root: str
    mount_point: str
    file_system: str


def ephemeral_state(store_url: str, setting: bool | Literal["auto"]) -> str | None:
    """Why the store at this SQLAlchemy URL is deleted with its pod or machine; None if nothing says
    so.

    `setting` is `state_ephemeral`: a boolean decides, "auto" inspects the mount of the database's
    directory, which must exist.
    """
    url = make_url(store_url)
    if url.get_backend_name() != "sqlite" or setting is False:
        return None
    if setting is True:
        return "the setting state_ephemeral says so"
    if url.database in {None, "", ":memory:"}:
        return "the database is in memory"
    return ephemeral_mount(Path(str(url.database)).parent)


def ephemeral_mount(directory: Path) -> str | None:
    """Why this directory's mount is ephemeral; None if it is not, or without a readable /proc."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            number = mount_id(Path(f"/proc/self/fdinfo/{descriptor}").read_text("utf-8"))
        finally:
            os.close(descriptor)
        # A mount point may contain any byte.
        mountinfo = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:
        return None
    mount = None if number is None else find_mount(number, mountinfo)
    return None if mount is None else ephemeral_reason(mount, in_pod=KUBERNETES in os.environ)


def mount_id(fdinfo: str) -> int | None:
    """The id of the mount of an open file, from its fdinfo; None if it has none."""
    matched = re.search(r"^mnt_id:\s*(\d+)$", fdinfo, re.MULTILINE)
    return int(matched[1]) if matched else None


def find_mount(number: int, mountinfo: str) -> Mount | None:
    """The mount with this id; None if its line is missing or malformed."""
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if fields[0] == str(number) and "-" in fields[6:]:
            file_system = fields[fields.index("-", 6) + 1]
            return Mount(_unescaped(fields[3]), _unescaped(fields[4]), file_system)
    return None


def _unescaped(field: str) -> str:
    """A path without mountinfo's escapes for space, tab, newline and backslash."""
    return _OCTAL.sub(lambda escape: chr(int(escape[1], 8)), field)


def ephemeral_reason(mount: Mount, *, in_pod: bool) -> str | None:
    """Why this mount's content is lost with the pod or container; None if nothing says so.

    None is no proof: a volume claim that is deleted with its pod looks like any other disk.
    """
    if EMPTY_DIR.search(mount.root):
        return "a Kubernetes emptyDir: it is deleted with the pod"
    if ANONYMOUS_VOLUME.search(mount.root):
        return "an anonymous volume: the next container gets another one"
    if mount.file_system in VOLATILE:
        return VOLATILE[mount.file_system]
    if in_pod and mount.mount_point == "/":
        return "the root file system of a pod's container, which is deleted with it"
    return None
