"""What a wait in hand weighs: its own objects, asked of the interpreter, for a few waits in place of all.

The size of the process does not tell. It keeps what a batch or a burst of connections once needed, so it says less about how many waits
are held than about what has happened. A sample of entries tells it at any time, and costs a millisecond.
"""

import gc
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from msgspec import Struct

from waitd.engine.held_wait import HeldWait

#: How many objects of one wait are looked at, at most.
OBJECTS = 500
#: Of an entry, what belongs to many.
_SHARED = frozenset({"bucket", "kind", "pacing"})
#: Beside the object that holds it, who refers to an object while it is looked at here: a list, a variable, an argument.
_LOOKING = 3
#: An object that so many others hold is not this wait's alone. Two: an id stands in the entry and in the table of those held.
_HOLDERS = 2
#: The allocator's grain, in bytes.
_GRAIN = 16
_PAGES = Path("/proc/self/statm")


def bytes_each(entries: Iterable[HeldWait]) -> float:
    """The mean size in bytes of what is only there for one of `entries`; 0 where there are none."""
    sizes = [_own_size(entry) for entry in entries]
    return sum(sizes) / len(sizes) if sizes else 0.0


def _own_size(entry: HeldWait) -> int:
    parts = [getattr(entry, name) for name in HeldWait.__struct_fields__ if name not in _SHARED]
    size, seen = _rounded(sys.getsizeof(entry)), {id(entry)}
    for _ in range(OBJECTS):
        if not parts:
            break
        part = parts.pop()
        if id(part) in seen or isinstance(part, type) or sys.getrefcount(part) > _HOLDERS + _LOOKING:
            continue
        seen.add(id(part))
        size += _rounded(sys.getsizeof(part))
        parts += _parts_of(part)
    return size


def _parts_of(holder: Any) -> list[Any]:
    """What it refers to; a struct that the collector passes over does not tell that."""
    if isinstance(holder, Struct):
        return [getattr(holder, name) for name in holder.__struct_fields__]
    return gc.get_referents(holder)


def _rounded(size: int) -> int:
    return (size + _GRAIN - 1) // _GRAIN * _GRAIN


def sampled(entries: "dict[Any, HeldWait]", most: int) -> list[HeldWait]:
    """Some of those held: the oldest and the newest, so that nothing is gone through."""
    half = most // 2
    if len(entries) <= most:
        return list(entries.values())
    return [*islice(entries.values(), half), *islice(reversed(entries.values()), half)]


def resident_bytes() -> int:
    """The memory that this process has now; 0 where the system does not tell as Linux does."""
    try:
        return int(_PAGES.read_bytes().split()[1]) * _page_size()
    except OSError:
        return 0


def _page_size() -> int:
    import resource  # noqa: PLC0415 - not on Windows, which has no /proc either

    return resource.getpagesize()
