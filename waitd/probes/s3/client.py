"""S3's HEAD of an object and LIST of keys, signed, over the HTTP client of the kind `http`; shared by every kind that asks S3.

It answers with what it found, or with the verdict that this comes to. It makes one request a question, and no retries: when to ask again
is the poker's to say. A client library costs more a question, or does not take every key that S3 does.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, Self, TypeVar
from xml.etree.ElementTree import ParseError

import structlog
from anyio import CapacityLimiter

from waitd.core.aws.answers import S3Error, S3Operation, s3_verdict
from waitd.core.aws.signature import S3Signer, encoded_path, encoded_query
from waitd.core.connections.aws import is_region
from waitd.core.connections.egress import HostSource
from waitd.core.http.answer import RETRYABLE_STATUSES, AnswerFacts, CredentialsRefused
from waitd.core.waits.verdict import Unreachable, Verdict
from waitd.outgoing import Outgoing
from waitd.ports import Connections
from waitd.probes.access.aws import AwsEndpoint, AwsEndpoints, aws_host
from waitd.probes.cel.workers import WORKERS
from waitd.probes.s3.xml import ListPage, S3Object, find_element_text, object_from_head, parse_list_page
from waitd.probes.transport.client import HttpClient, Request, Response, facts_of
from waitd.probes.transport.connection import Http1Connection
from waitd.probes.transport.response import Http1Response, OnResponse

#: The largest body of an error, and of a page of 1,000 keys, in bytes.
_ERROR_BYTES = 64 * 1024
_PAGE_BYTES = 8 * 1024 * 1024
#: Seconds for which a bucket that was there is taken to be there still, where a missing key might mean a missing bucket.
BUCKET_SEEN = 300.0
_MAX_BUCKETS = 10_000
#: Of how many of them, by credentials, what signs is kept: those whose credentials have changed are soon gone.
_MAX_SIGNED = 1_000
#: Answers that may tell the bucket's own region, and answers to a HEAD that leave unsaid what is wrong.
_TELLS_REGION = frozenset({301, 307, 400})
_WORDLESS = frozenset({400, 401, 403})

#: The most pages of 1,000 keys that one look reads.
MAX_PAGES = 100

TOO_MANY_KEYS = Unreachable(
    "too_many_keys",
    f"More than {MAX_PAGES * 1000:,} keys begin so; a longer literal beginning is needed.",
)
_BAD_LIST = Unreachable("bad_answer", "The answer is no list of keys.")
_BAD_HEAD = Unreachable(
    "bad_answer", "The answer is not that of an S3 store: it has neither ETag nor Last-Modified."
)
Refusal = Verdict | CredentialsRefused
#: A bucket at an origin.
_Home = tuple[str, str]
_Value = TypeVar("_Value", float, str)

_log = structlog.get_logger()


class _Answer(NamedTuple):
    facts: AnswerFacts
    response: Response
    body: bytes | None = None


class S3Client:
    """Asks S3. Start it in the loop that it runs in, and close it there; or use it as a context manager.

    `now` gives Unix seconds, `monotonic` seconds that never go back.
    """

    def __init__(
        self,
        connections: Connections,
        *,
        outgoing: Outgoing | None = None,
        keepalive: float = 30.0,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoints = AwsEndpoints(connections, now=monotonic)
        self.now = now
        #: Bounds the worker processes of all that ask S3.
        self.workers = CapacityLimiter(WORKERS)
        self._monotonic = monotonic
        self._http = HttpClient(keepalive=keepalive, outgoing=outgoing)
        self._regions: dict[_Home, str] = {}
        self._buckets: dict[_Home, float] = {}
        #: The bucket as it is addressed and signed for, the same object each time.
        self._bucket = lru_cache(maxsize=_MAX_SIGNED)(Bucket)

    async def start(self) -> Self:
        """Opens the HTTP session."""
        await self._http.start()
        return self

    async def close(self) -> None:
        """Closes the HTTP session and its connections."""
        await self._http.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def head(
        self, endpoint: AwsEndpoint, bucket: str, key: str, *, anew: bool = False
    ) -> S3Object | Refusal | None:
        """The object; None: it is not there. `anew`: the second time, since the bucket's own region is known.

        Raises:
            aiohttp.ClientError, OSError: see `classify_error`.
        """
        answer = await self._ask(endpoint, "HEAD", bucket, key, "")
        status = answer.facts.status
        if status == 404:
            if self._monotonic() < self._buckets.get((endpoint.origin, bucket), 0.0):
                return None
            return await self._missing(endpoint, bucket)
        if 200 <= status < 300:
            return object_from_head(key, answer.response.headers) or _BAD_HEAD
        refusal = S3Error(status, "", answer.facts.retry_after)
        if status in _WORDLESS:  # those to a LIST say what is wrong
            region = self._regions.get((endpoint.origin, bucket))
            told = _refusal(await self._ask(endpoint, "GET", bucket, "", _list_query(key, None, 1)))
            if not anew and region != self._regions.get((endpoint.origin, bucket)):
                return await self.head(endpoint, bucket, key, anew=True)
            if told.code:
                refusal = S3Error(told.status, told.code, told.retry_after)
        return s3_verdict(refusal, S3Operation.HEAD)

    def send_head(
        self, endpoint: AwsEndpoint, bucket: str, key: str, on_response: OnResponse
    ) -> Http1Connection | None:
        """Sends a HEAD of a key in a bucket that exists, on an idle connection.

        None when there is no such connection, or the bucket has not been seen lately: use `head`.

        Raises:
            aiohttp.ClientError, OSError, ValueError: see `classify_error`.
        """
        home = (endpoint.origin, bucket)
        if self._monotonic() >= self._buckets.get(home, 0.0):
            return None
        where = self._bucket(endpoint, self._regions.get(home, endpoint.region), bucket)
        return self._http.send(where.request("HEAD", key, "", now=self.now()), on_response)

    def not_now(self, response: Http1Response) -> Refusal | None:
        """Returns the verdict of a response to a HEAD by which the store asks for a later request; else None."""
        if response.status not in RETRYABLE_STATUSES and response.status < 500:
            return None
        retry_after = facts_of(response, self.now()).retry_after
        return s3_verdict(S3Error(response.status, "", retry_after), S3Operation.HEAD)

    async def page(
        self, endpoint: AwsEndpoint, bucket: str, prefix: str, token: str | None
    ) -> ListPage | Refusal:
        """A page of the keys that begin with `prefix`.

        Raises:
            aiohttp.ClientError, OSError: see `classify_error`.
        """
        answer = await self._ask(endpoint, "GET", bucket, "", _list_query(prefix, token, 1000))
        if not 200 <= answer.facts.status < 300:
            return s3_verdict(_refusal(answer), S3Operation.LIST)
        try:
            return parse_list_page(answer.body or b"")
        except (LookupError, ValueError, ParseError):
            return _BAD_LIST

    async def _missing(self, endpoint: AwsEndpoint, bucket: str) -> Refusal | None:
        """None for a missing key; S3 answers a HEAD the same where there is no bucket, so that is asked now and then."""
        answer = await self._ask(endpoint, "GET", bucket, "", _list_query("", None, 1))
        if answer.facts.status == 404:
            return s3_verdict(_refusal(answer), S3Operation.LIST)
        if answer.facts.status < 500:
            _keep(self._buckets, (endpoint.origin, bucket), self._monotonic() + BUCKET_SEEN)
        return None

    async def _ask(self, endpoint: AwsEndpoint, method: str, bucket: str, key: str, query: str) -> _Answer:
        """One answer; a second one where the first tells the bucket's own region."""
        home = (endpoint.origin, bucket)
        region = self._regions.get(home, endpoint.region)
        answer = await self._send(self._bucket(endpoint, region, bucket), method, key, query)
        if answer.facts.status in _TELLS_REGION:
            told = answer.response.headers.get("x-amz-bucket-region") or find_element_text(
                answer.body, "Region"
            )
            if told and told != region and is_region(told):
                _keep(self._regions, home, told)
                answer = await self._send(self._bucket(endpoint, told, bucket), method, key, query)
        return answer

    async def _send(self, bucket: "Bucket", method: str, key: str, query: str) -> _Answer:
        now = self.now()
        sent = await self._http.fetch(bucket.request(method, key, query, now=now), now)
        facts, response, _ = sent
        try:
            if method == "HEAD":
                return _Answer(facts, response)
            limit = _PAGE_BYTES if facts.status < 300 else _ERROR_BYTES
            return _Answer(facts, response, await self._http.read(response, limit))
        finally:
            if not response.closed:
                await self._http.release(response)


def _keep(held: dict[_Home, _Value], home: _Home, value: _Value) -> None:
    if len(held) >= _MAX_BUCKETS and home not in held:
        del held[next(iter(held))]
    held[home] = value


class Bucket:
    """A bucket as requests about it are addressed and signed. `signer` None: they are not signed."""

    def __init__(self, endpoint: AwsEndpoint, region: str, name: str) -> None:
        base = endpoint.base or f"https://{aws_host(region)}"
        scheme, _, rest = base.partition("://")
        host, slash, above = rest.partition("/")
        own_host = _has_own_host(endpoint, name)
        if own_host:
            host = f"{name}.{host}"
        self.origin = f"{scheme}://{host}"
        self.signer = None if endpoint.keys is None else S3Signer(endpoint.keys, region, host)
        self.verify_tls = endpoint.verify_tls
        root = f"{slash}{above}" if own_host else f"{slash}{above}/{name}"
        self._above_keys = f"{root}/"
        self._itself = f"{root}/" if own_host else root

    def path(self, key: str) -> str:
        """The encoded path of an object in it; without a key, its own."""
        return self._above_keys + encoded_path(key) if key else self._itself

    def request(self, method: str, key: str, query: str, *, now: float) -> Request:
        """A request about an object in it, or without a key about itself, signed at `now` (Unix seconds)."""
        path = self.path(key)
        headers = None if self.signer is None else self.signer.headers(method, path, query, now=now)
        url = f"{self.origin}{path}?{query}" if query else self.origin + path
        return Request(method, url, headers, None, self.verify_tls, HostSource.OPERATOR)


def _has_own_host(endpoint: AwsEndpoint, bucket: str) -> bool:
    """Whether the bucket is part of the host: as boto3 does it, at AWS's own endpoints, and where the connection says so."""
    if endpoint.style == "path" or (endpoint.style == "auto" and endpoint.base is not None):
        return False
    return bucket.replace("-", "").isalnum() and bucket.islower() and len(bucket) <= 63


def _list_query(prefix: str, token: str | None, most: int) -> str:
    parameters = {"list-type": "2", "encoding-type": "url", "prefix": prefix, "max-keys": str(most)}
    if token is not None:
        parameters["continuation-token"] = token
    return encoded_query(parameters)


def _refusal(answer: _Answer) -> S3Error:
    return S3Error(answer.facts.status, find_element_text(answer.body, "Code"), answer.facts.retry_after)
