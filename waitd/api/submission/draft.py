"""What a body has come to when it has been checked, on its way into the store."""

from typing import NamedTuple

from msgspec import Struct

from waitd.ports import NewWait


class NamedConnection(NamedTuple):
    """A conn_id that the cache does not hold, and the field that names it."""

    conn_id: str
    pointer: str


class ValidatedWait(Struct, gc=False):
    """A wait whose every field is right, but for connections that still have to be asked for."""

    new: NewWait
    unseen: tuple[NamedConnection, ...] = ()
