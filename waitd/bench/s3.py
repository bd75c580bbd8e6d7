"""A small S3 that holds what the job server's jobs write.

A job `/jobs/{behaviour}/{seconds}/{id}` writes below the same name, in any bucket: a part every
half a second while it runs, and at its end the last part and `_SUCCESS`. The job's faults apply; a
503 is `SlowDown`. Supported: HEAD and GET of an object, and LIST (version 2) with a prefix inside
one job. Signatures are not checked.
"""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import formatdate
from typing import NamedTuple, Protocol
from urllib.parse import parse_qs, quote, unquote
from xml.sax.saxutils import escape
from zlib import crc32

import orjson

from waitd.bench.jobs import Fault, Job, raw_answer

#: Seconds between two parts of a job.
PART_EVERY = 0.5
MARKER = "_SUCCESS"
_PART = b"PAR1" * 64
_REFUSALS = {Fault.UNAVAILABLE, Fault.THROTTLED}
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
#: An answer and what disturbs it; see `waitd.bench.job_table.Disturbance`.
_Answer = tuple[bytes, Fault | float | None]


def s3_connection(url: str) -> str:
    """A connection to this S3 as an AIRFLOW_CONN_* variable holds it, with random credentials."""
    extra = {"endpoint_url": url, "region_name": "us-east-1"}
    return orjson.dumps(
        {"conn_type": "aws", "login": "bench", "password": os.urandom(16).hex(), "extra": extra}
    ).decode()


class S3Job(Protocol):
    """What this module needs of a running job; `first_seen` is the time of its start."""

    job: Job
    first_seen: float

    def count_request(self, now: float) -> tuple[bool, Fault | float | None]:
        """See `waitd.bench.job_table.RunningJob`."""


class S3File(NamedTuple):
    """An object; `written` is in seconds after the start of its job."""

    name: str
    content: bytes
    written: float


def files_of_job(job: Job, age: float, *, ended: bool) -> Sequence[S3File]:
    """The files that a job has written at `age` seconds, ordered by name.

    A job without an end writes none.
    """
    if job.behaviour.ends is None:
        return ()
    parts = int(min(age, job.seconds) / PART_EVERY) + ended
    files = [
        S3File(f"part-{n:05}.parquet", _PART, min((n + 1) * PART_EVERY, job.seconds)) for n in range(parts)
    ]
    return [S3File(MARKER, b"", job.seconds), *files] if ended else files


class S3:
    """Answers requests."""

    def __init__(
        self,
        find_job: Callable[[bytes, float], S3Job],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        """`find_job` returns the job of a path and raises ValueError if there is none."""
        self._find_job = find_job
        self._clock = clock
        self._wall_clock = wall_clock

    def answer(self, target: bytes, method: bytes) -> _Answer:
        """The answer to a request, and what disturbs it; the server strips the body for a HEAD."""
        path, _, query = target.decode("ascii").partition("?")
        bucket, _, key = unquote(path).removeprefix("/").partition("/")
        if method not in {b"GET", b"HEAD"}:
            return _error(405, "MethodNotAllowed"), None
        if not key:
            return self._list(bucket, {name: values[0] for name, values in parse_qs(query).items()})
        files, disturbance = self._files(key)
        if disturbance in _REFUSALS:
            return _error(503, "SlowDown"), None
        return (self._object(*files[key]) if key in files else _error(404, "NoSuchKey")), disturbance

    def _files(self, key: str) -> tuple[dict[str, tuple[S3File, float]], Fault | float | None]:
        """The files of the job of a key or prefix, by key, each with its Unix second."""
        path = "/" + "/".join(key.split("/")[:4])
        now = self._clock()
        try:
            running = self._find_job(path.encode("ascii"), now)
        except ValueError:
            return {}, None
        ended, disturbance = running.count_request(now)
        started = self._wall_clock() - (now - running.first_seen)
        files = files_of_job(running.job, now - running.first_seen, ended=ended)
        return {f"{path[1:]}/{file.name}": (file, started + file.written) for file in files}, disturbance

    def _object(self, file: S3File, written_at: float) -> bytes:
        modified = f"Last-Modified: {formatdate(written_at, usegmt=True)}"
        return raw_answer(200, file.content, f"ETag: {_etag(file)}", modified)

    def _list(self, bucket: str, query: dict[str, str]) -> _Answer:
        prefix = query.get("prefix", "")
        files, disturbance = self._files(prefix)
        if disturbance in _REFUSALS:
            return _error(503, "SlowDown"), None
        keys = sorted(key for key in files if key.startswith(prefix))
        start, most = int(query.get("continuation-token", "0")), int(query.get("max-keys", "1000"))
        page = keys[start : start + most]
        items = "".join(_item(key, *files[key]) for key in page)
        more = start + most < len(keys)
        token = f"<NextContinuationToken>{start + most}</NextContinuationToken>" if more else ""
        xml = (
            f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{escape(bucket)}</Name>'
            f"<EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>{token}{items}</ListBucketResult>"
        )
        return _xml_answer(200, xml), disturbance


def _item(key: str, file: S3File, written_at: float) -> str:
    modified = datetime.fromtimestamp(written_at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    etag = _etag(file).replace('"', "&quot;")
    return (
        f"<Contents><Key>{quote(key)}</Key><LastModified>{modified}</LastModified><ETag>{etag}</ETag>"
        f"<Size>{len(file.content)}</Size></Contents>"
    )


def _etag(file: S3File) -> str:
    return f'"{crc32(file.content):032x}"'


def _error(status: int, code: str) -> bytes:
    return _xml_answer(status, f"<Error><Code>{code}</Code></Error>")


def _xml_answer(status: int, xml: str) -> bytes:
    return raw_answer(status, (_XML + xml).encode(), "Content-Type: application/xml")
