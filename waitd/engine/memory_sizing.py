"""Measures the memory of a held wait: its objects that no other wait uses, for a sample.

The size of the process does not show it: the process keeps memory that a batch or a burst of
connections once needed. A sample can be taken at any time and costs a millisecond.
"""

import gc
import os
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from msgspec import Struct

from waitd.engine.held_wait import HeldWait

#: How many objects of one wait are measured at most.
MAX_OBJECTS = 500
#: The fields of a held wait whose objects many waits share.
_SHARED = frozenset({"bucket", "kind", "pacing"})
#: References to an object that this module itself holds meanwhile: a list, a variable, an argument.
_OWN_REFERENCES = 3
#: An object with more references than these is shared with other waits. Two: the held wait and the
#: poker's table both refer to the id.
_MAX_REFERENCES = 2
#: The allocator's grain, in bytes.
_GRAIN = 16
_PAGES = Path("/proc/self/statm")


def bytes_each(waits: Iterable[HeldWait]) -> float:
    """The mean size in bytes of what belongs to one of `waits` alone; 0 if there are none."""
    sizes = [_own_size(held) for held in waits]
    return sum(sizes) / len(sizes) if sizes else 0.0


def _own_size(held: HeldWait) -> int:
    parts = [getattr(held, name) for name in HeldWait.__struct_fields__ if name not in _SHARED]
    size, seen = _rounded(sys.getsizeof(held)), {id(held)}
    while parts and len(seen) < MAX_OBJECTS:
        part = parts.pop()
        references = sys.getrefcount(part)
        if id(part) in seen or isinstance(part, type) or references > _MAX_REFERENCES + _OWN_REFERENCES:
            continue
        seen.add(id(part))
        size += _rounded(sys.getsizeof(part))
        parts += _parts_of(part)
    return size


def _parts_of(holder: Any) -> list[Any]:
    """The objects that `holder` refers to. A struct without gc does not report them itself."""
    if isinstance(holder, Struct):
        return [getattr(holder, name) for name in holder.__struct_fields__]
    return gc.get_referents(holder)


def _rounded(size: int) -> int:
    return (size + _GRAIN - 1) // _GRAIN * _GRAIN


def sampled(held: "dict[Any, HeldWait]", size: int) -> list[HeldWait]:
    """Up to `size` waits, the oldest and the newest, without walking through all."""
    if len(held) <= size:
        return list(held.values())
    return [*islice(held.values(), size // 2), *islice(reversed(held.values()), size // 2)]


def resident_bytes() -> int:
    """The process's resident memory; 0 where /proc does not show it."""
    try:
        return int(_PAGES.read_bytes().split()[1]) * os.sysconf("SC_PAGESIZE")
    except OSError:
        return 0
