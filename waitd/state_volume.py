"""Detects a SQLite database on a volume that does not outlive the pod or the machine.

This module reads the mount table; `waitd.core.mounts` interprets it.
"""

import os
from pathlib import Path
from typing import Literal

from sqlalchemy.engine import make_url

from waitd.core.mounts import ephemeral_because, mount_id, mount_with

#: Kubernetes sets this variable in every container.
KUBERNETES_VARIABLE = "KUBERNETES_SERVICE_HOST"


def ephemeral_state(store_url: str, setting: bool | Literal["auto"]) -> str | None:
    """The reason why the store at this SQLAlchemy URL is ephemeral, or None if it is not known to be.

    A boolean `setting` (state_ephemeral) decides. "auto" checks the mount of the database's
    directory, which must exist.
    """
    url = make_url(store_url)
    if url.get_backend_name() != "sqlite" or setting is False:
        return None
    if setting is True:
        return "the setting state_ephemeral is true"
    if url.database in {None, "", ":memory:"}:
        return "the database is in memory"
    return ephemeral_mount(Path(str(url.database)).parent)


def ephemeral_mount(directory: Path) -> str | None:
    """The reason why the directory's mount is ephemeral, or None. None also without /proc (not Linux)."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            mount_number = mount_id(Path(f"/proc/self/fdinfo/{descriptor}").read_text("utf-8"))
        finally:
            os.close(descriptor)
        # Paths of mount points may contain any byte.
        mountinfo = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:
        return None
    mount = None if mount_number is None else mount_with(mount_number, mountinfo)
    return None if mount is None else ephemeral_because(mount, in_pod=KUBERNETES_VARIABLE in os.environ)
