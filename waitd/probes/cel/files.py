"""Evaluates `check`, CEL over `files`, in the loop where that is cheap, else in a worker.

Workers import this module, so it imports no client.
"""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import orjson
from anyio import CapacityLimiter

from waitd.probes.cel.expressions import INLINE_COST, CelEnvironment, ErrorValue, Type, replace_nul
from waitd.probes.cel.workers import run_in_worker

FileMetadata = Mapping[str, Any]

FILES_ENV = CelEnvironment({"files": Type.List(Type.Map(Type.STRING, Type.DYN))})
#: The estimated size of a file's metadata without its key, in bytes: sizes, times and ETags are
#: short.
_METADATA_BYTES = 160
_SHORT = {"Key", "Size", "LastModified", "ETag"}


async def unmet_check(source: str, files: Sequence[FileMetadata], limiter: CapacityLimiter) -> str | None:
    """Returns why a check is not true of these files, in a few words; None where it is true.

    The caller sets the time limit.

    Raises:
        anyio.BrokenWorkerProcess, MemoryError: the check needed more memory than a worker has.
    """
    expression = FILES_ENV.compile(source)
    size = sum(len(file.get("Key", "")) + _METADATA_BYTES for file in files)
    if files and not files[0].keys() <= _SHORT:
        size = len(orjson.dumps(files))
    weight = expression.weight(SimpleNamespace(files=files), size)
    if expression.cost(weight, 5 * len(files)) <= INLINE_COST:
        return _evaluate(source, files)
    return await run_in_worker(_evaluate, source, list(files), limiter=limiter)


def _evaluate(source: str, files: Sequence[FileMetadata]) -> str | None:
    if any("\0" in file.get("Key", "") for file in files):
        files = [{**file, "Key": replace_nul(file.get("Key", ""))} for file in files]
    value = FILES_ENV.compile(source).evaluate(SimpleNamespace(files=files))
    if value is True:
        return None
    if value is False:
        return "it is false"
    return str(value) if isinstance(value, ErrorValue) else "it is not a boolean"
