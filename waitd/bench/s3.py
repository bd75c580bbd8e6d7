"""A small S3: what the fleet's jobs write.

A job `/jobs/{behaviour}/{seconds}/{id}` writes below the same name, in any bucket: a part every half a second while it runs, and with its
end the last part and `_SUCCESS`. Its troubles are those of the job, a 503 being `SlowDown`. The server knows HEAD and GET of an object, and
LIST (version 2) with a prefix inside one job; who signed a request, it does not ask.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import formatdate
from typing import NamedTuple, Protocol
from urllib.parse import parse_qs, quote, unquote
from xml.sax.saxutils import escape
from zlib import crc32

from waitd.bench.jobs import Fault, Job

#: Seconds between two parts of a job.
PART_EVERY = 0.5
MARKER = "_SUCCESS"
_PART = b"PAR1" * 64

_REFUSALS = {Fault.UNAVAILABLE, Fault.THROTTLED}

_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'


class S3Job(Protocol):
    """A job of the fleet, as much as S3 needs of it. `first_seen` is the time when it began."""

    job: Job
    first_seen: float

    def asked(self, now: float) -> tuple[bool, Fault | float | None]:
        """One more request: whether the job has ended, and what befalls the answer: a trouble, or that it comes so many seconds late."""


class S3File(NamedTuple):
    """An object: its name below the job's, its content, and how many seconds after the job's beginning it was written."""

    name: str
    content: bytes
    written: float


def files_of_job(job: Job, age: float, *, ended: bool) -> Sequence[S3File]:
    """What a job has written when it is `age` seconds old, in the order of the names. One without an end writes nothing."""
    if job.behaviour.ends is None:
        return ()
    parts = int(min(age, job.seconds) / PART_EVERY) + ended
    files = [
        S3File(f"part-{n:05}.parquet", _PART, min((n + 1) * PART_EVERY, job.seconds)) for n in range(parts)
    ]
    return [S3File(MARKER, b"", job.seconds), *files] if ended else files


class S3:
    """Answers requests. `running` finds the job of a path and raises ValueError where it names none."""

    def __init__(
        self,
        running: Callable[[bytes, float], S3Job],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._running = running
        self._clock = clock
        self._wall_clock = wall_clock

    def look(self, target: bytes, method: bytes) -> tuple[bytes, Fault | float | None]:
        """What a request gets, and what befalls the answer; a HEAD gets the same as a GET, its body cut off by the server."""
        path, _, query = target.decode("ascii").partition("?")
        bucket, _, key = unquote(path).removeprefix("/").partition("/")
        if method not in {b"GET", b"HEAD"}:
            return _error(405, "MethodNotAllowed"), None
        if not key:
            return self._list(bucket, {name: values[0] for name, values in parse_qs(query).items()})
        files, trouble = self._files(key)
        if trouble in _REFUSALS:
            return _error(503, "SlowDown"), None
        file = files.get(key)
        return _error(404, "NoSuchKey") if file is None else self._object(*file), trouble

    def _files(self, key: str) -> tuple[dict[str, tuple[S3File, float]], Fault | float | None]:
        """The files of the job that a key or a prefix lies in, by key, each with the Unix second when it was written."""
        path = "/" + "/".join(key.split("/")[:4])
        now = self._clock()
        try:
            running = self._running(path.encode("ascii"), now)
        except ValueError:
            return {}, None
        ended, trouble = running.asked(now)
        began = self._wall_clock() - (now - running.first_seen)
        files = files_of_job(running.job, now - running.first_seen, ended=ended)
        return {f"{path[1:]}/{file.name}": (file, began + file.written) for file in files}, trouble

    def _object(self, file: S3File, written_at: float) -> bytes:
        head = [
            "HTTP/1.1 200 OK",
            f"Content-Length: {len(file.content)}",
            f"ETag: {_etag(file)}",
            f"Last-Modified: {formatdate(written_at, usegmt=True)}",
        ]
        return "\r\n".join([*head, "", ""]).encode() + file.content

    def _list(self, bucket: str, query: dict[str, str]) -> tuple[bytes, Fault | float | None]:
        prefix = query.get("prefix", "")
        files, trouble = self._files(prefix)
        if trouble in _REFUSALS:
            return _error(503, "SlowDown"), None
        keys = sorted(key for key in files if key.startswith(prefix))
        start, most = int(query.get("continuation-token", "0")), int(query.get("max-keys", "1000"))
        page = keys[start : start + most]
        items = "".join(_item(key, *files[key]) for key in page)
        more = start + most < len(keys)
        token = f"<NextContinuationToken>{start + most}</NextContinuationToken>" if more else ""
        xml = (
            f'{_XML}<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{escape(bucket)}</Name>'
            f"<EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>{token}{items}</ListBucketResult>"
        )
        return _answer(200, xml), trouble


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
    return _answer(status, f"{_XML}<Error><Code>{code}</Code></Error>")


def _answer(status: int, xml: str) -> bytes:
    body = xml.encode()
    head = f"HTTP/1.1 {status} {'OK' if status < 300 else 'No'}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
