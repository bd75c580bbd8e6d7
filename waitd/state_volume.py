"""Looks at the volume that the SQLite file lies on: will it be there for the next pod?

What a container can see of its volumes is judged in `waitd.core.mounts`; here are only the files that it is judged by.
"""

import os
from pathlib import Path
from typing import Literal

from sqlalchemy.engine import make_url

from waitd.core.mounts import ephemeral_because, mount_id, mount_with

#: Kubernetes gives this variable to every container.
KUBERNETES = "KUBERNETES_SERVICE_HOST"


def ephemeral_state(store_url: str, setting: bool | Literal["auto"]) -> str | None:
    """Why the waits of the store at this SQLAlchemy URL will not outlive the pod or machine; None where nothing says so.

    `setting` decides where it is a boolean; "auto" looks at the directory's mount, which has to exist by now.
    """
    url = make_url(store_url)
    if url.get_backend_name() != "sqlite" or setting is False:
        return None
    if setting is True:
        return "the setting state_ephemeral says so"
    if url.database in {None, "", ":memory:"}:
        return "the database lies in memory"
    return look_at(Path(str(url.database)).parent)


def look_at(directory: Path) -> str | None:
    """What speaks against the mount of this directory; None also where the system does not tell (not Linux, no /proc)."""
    try:
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            number = mount_id(Path(f"/proc/self/fdinfo/{opened}").read_text("utf-8"))
        finally:
            os.close(opened)
        # A mount point may hold any byte.
        mountinfo = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:
        return None
    mount = None if number is None else mount_with(number, mountinfo)
    return None if mount is None else ephemeral_because(mount, in_pod=KUBERNETES in os.environ)
