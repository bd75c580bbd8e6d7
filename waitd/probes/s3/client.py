"""Sends signed HEAD and LIST requests to S3 over the HTTP client of the kind `http`.

A call returns what S3 answered, or the verdict on an error. It does not retry: the engine decides
when to poke again. An S3 client library costs more per request, or does not accept every key that
S3 does.
"""

import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple, Self
from xml.etree.ElementTree import ParseError

from anyio import CapacityLimiter

from waitd.core.aws.answers import AwsError, S3Operation, s3_verdict
from waitd.core.aws.signature import S3Signer, encoded_path, encoded_query
from waitd.core.bounded_dict import BoundedDict
from waitd.core.connections.aws import is_region
from waitd.core.connections.egress import HostSource
from waitd.core.connections.masking import SecretMask
from waitd.core.connections.proxies import DEFAULT_PROXIES, Proxies
from waitd.core.connections.sent_secrets import keys_mask, signature_of
from waitd.core.http.answer import RETRYABLE_STATUSES, AnswerFacts, CredentialsRefused
from waitd.core.waits.verdict import Unreachable, Verdict
from waitd.outgoing import EgressGuard
from waitd.ports import Connections
from waitd.probes.access.aws import AwsEndpoint, AwsEndpoints, aws_host
from waitd.probes.cel.workers import WORKERS
from waitd.probes.s3.metadata import MetadataKeys, head_fields
from waitd.probes.s3.xml import (
    ListPage,
    S3Object,
    find_element_text,
    object_from_head,
    parse_list_page,
    parse_tags,
)
from waitd.probes.transport.client import HttpClient, Request
from waitd.probes.transport.connection import Http1Connection
from waitd.probes.transport.facts import Response, facts_of
from waitd.probes.transport.response import Http1Response, OnResponse

#: The largest body of an error, and of a page of 1,000 keys, in bytes.
_ERROR_BYTES = 64 * 1024
_PAGE_BYTES = 8 * 1024 * 1024
#: Seconds for which a bucket that was seen is assumed to exist, so that a 404 means a missing key.
BUCKET_SEEN_SECONDS = 300.0
_MAX_BUCKETS = 10_000
#: The most buckets, by credentials, whose signers are cached.
_MAX_SIGNERS = 1_000
#: Statuses that may come with the bucket's region, and those of a HEAD that do not say what is
#: wrong.
_WRONG_REGION = frozenset({301, 307, 400})
_UNEXPLAINED = frozenset({400, 401, 403})

#: The most pages of 1,000 keys that one poke reads.
MAX_PAGES = 100

TOO_MANY_KEYS = Unreachable(
    "too_many_keys", f"More than {MAX_PAGES * 1000:,} keys have this prefix; use a longer literal prefix."
)
_BAD_LIST = Unreachable("bad_answer", "The response is not a list of keys.")
_BAD_TAGS = Unreachable("bad_answer", "The response is not a set of tags.")
_BAD_HEAD = Unreachable(
    "bad_answer", "The response is not from an S3 store: it has neither ETag nor Last-Modified."
)
#: The origin of an endpoint and the name of a bucket.
_BucketId = tuple[str, str]
_Headers = tuple[tuple[str, str], ...]


class _S3Response(NamedTuple):
    facts: AnswerFacts
    response: Response
    mask: SecretMask
    body: bytes | None = None

    @property
    def error(self) -> AwsError:
        code = find_element_text(self.body, "Code")
        return AwsError(self.facts.status, code, retry_after=self.facts.retry_after)


class S3Client:
    """The client of all kinds of S3. Use it as an async context manager."""

    def __init__(
        self,
        connections: Connections,
        *,
        egress: EgressGuard | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now` returns Unix seconds, `monotonic` the seconds of a monotonic clock."""
        self.endpoints = AwsEndpoints(connections, now=monotonic, egress=egress)
        self.now = now
        #: Bounds the worker processes of all kinds of S3.
        self.workers = CapacityLimiter(WORKERS)
        self._monotonic = monotonic
        self._http = HttpClient(egress=egress)
        self._regions: BoundedDict[_BucketId, str] = BoundedDict(_MAX_BUCKETS)
        self._seen_until: BoundedDict[_BucketId, float] = BoundedDict(_MAX_BUCKETS)
        self._bucket = lru_cache(maxsize=_MAX_SIGNERS)(
            partial(Bucket, environment=DEFAULT_PROXIES if egress is None else egress.proxies)
        )

    async def __aenter__(self) -> Self:
        """Opens the HTTP client."""
        await self._http.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the HTTP client and its connections."""
        await self._http.close()

    async def head(
        self,
        endpoint: AwsEndpoint,
        bucket: str,
        key: str,
        wanted: MetadataKeys | None = None,
        *,
        region_known: bool = False,
    ) -> S3Object | Verdict | CredentialsRefused | None:
        """Returns the object; None if it does not exist.

        `wanted` is the metadata that is needed. `region_known` is set by the second attempt, once
        the bucket's region was learned.

        Raises:
            aiohttp.ClientError, OSError: see `classify_error`.
        """
        extra = wanted is not None and wanted.extra
        headers = wanted.headers if wanted is not None and extra else ()
        answer = await self._request(endpoint, "HEAD", bucket, key, "", headers=headers)
        status = answer.facts.status
        if status == 404:
            if self._monotonic() < self._seen_until.get((endpoint.origin, bucket), 0.0):
                return None
            return await self._check_bucket(endpoint, bucket)
        if 200 <= status < 300:
            found = object_from_head(key, answer.response.headers)
            if found is None:
                return _BAD_HEAD
            mask = answer.mask.mask_text
            fields = head_fields(answer.response.headers, mask) if extra else found.fields
            return found._replace(etag=mask(found.etag), fields=fields)
        error = AwsError(status, retry_after=answer.facts.retry_after)
        if status in _UNEXPLAINED:  # the error of a LIST has a body
            region = self._regions.get((endpoint.origin, bucket))
            explained = await self._request(endpoint, "GET", bucket, "", _list_query(key, None, 1))
            if not region_known and region != self._regions.get((endpoint.origin, bucket)):
                return await self.head(endpoint, bucket, key, wanted, region_known=True)
            if explained.error.code:
                error = explained.error
        return s3_verdict(error, S3Operation.HEAD)

    def send_head(
        self, endpoint: AwsEndpoint, bucket: str, key: str, on_response: OnResponse
    ) -> Http1Connection | None:
        """Sends a HEAD of a key in a bucket that exists, on an idle connection.

        None when there is no such connection, or the bucket has not been seen lately: use `head`.

        Raises:
            aiohttp.ClientError, OSError, ValueError: see `classify_error`.
        """
        bucket_id = (endpoint.origin, bucket)
        if self._monotonic() >= self._seen_until.get(bucket_id, 0.0):
            return None
        signed = self._bucket(endpoint, self._regions.get(bucket_id, endpoint.region), bucket)
        return self._http.send(signed.request("HEAD", key, "", now=self.now()), on_response)

    def retry_verdict(self, response: Http1Response) -> Verdict | CredentialsRefused | None:
        """Returns the verdict if a response to a HEAD asks to retry later, else None."""
        if response.status not in RETRYABLE_STATUSES and response.status < 500:
            return None
        retry_after = facts_of(response, self.now()).retry_after
        return s3_verdict(AwsError(response.status, retry_after=retry_after), S3Operation.HEAD)

    async def list_page(
        self,
        endpoint: AwsEndpoint,
        bucket: str,
        prefix: str,
        token: str | None,
        wanted: MetadataKeys | None = None,
    ) -> ListPage | Verdict | CredentialsRefused:
        """Returns a page of the objects whose keys have this prefix.

        `wanted` is the metadata that is needed.

        Raises:
            aiohttp.ClientError, OSError: see `classify_error`.
        """
        extra = wanted is not None and wanted.extra
        headers = wanted.headers if wanted is not None and extra else ()
        query = _list_query(prefix, token, 1000, owner=wanted is not None and wanted.owner)
        answer = await self._request(endpoint, "GET", bucket, "", query, headers=headers)
        if not 200 <= answer.facts.status < 300:
            return s3_verdict(answer.error, S3Operation.LIST)
        try:
            return parse_list_page(answer.body or b"", extra=extra)
        except (LookupError, ValueError, ParseError):
            return _BAD_LIST

    async def tags(
        self, endpoint: AwsEndpoint, bucket: str, key: str
    ) -> dict[str, str] | Verdict | CredentialsRefused | None:
        """Returns the tags of an object; None if it does not exist.

        Raises:
            aiohttp.ClientError, OSError: see `classify_error`.
        """
        answer = await self._request(endpoint, "GET", bucket, key, encoded_query({"tagging": ""}))
        if answer.facts.status == 404:
            return None
        if not 200 <= answer.facts.status < 300:
            return s3_verdict(answer.error, S3Operation.TAGS)
        try:
            return parse_tags(answer.body or b"")
        except (ValueError, ParseError):
            return _BAD_TAGS

    async def _check_bucket(self, endpoint: AwsEndpoint, bucket: str) -> Verdict | CredentialsRefused | None:
        """Returns None if the bucket exists.

        S3 answers a HEAD with 404 for a missing bucket, too.
        """
        answer = await self._request(endpoint, "GET", bucket, "", _list_query("", None, 1))
        if answer.facts.status == 404:
            return s3_verdict(answer.error, S3Operation.LIST)
        if answer.facts.status < 500:
            self._seen_until[endpoint.origin, bucket] = self._monotonic() + BUCKET_SEEN_SECONDS
        return None

    async def _request(
        self,
        endpoint: AwsEndpoint,
        method: str,
        bucket: str,
        key: str,
        query: str,
        *,
        headers: _Headers = (),
    ) -> _S3Response:
        """Sends a request, and once again if the response names another region of the bucket."""
        bucket_id = (endpoint.origin, bucket)
        region = self._regions.get(bucket_id, endpoint.region)
        extra = (headers,) if headers else ()  # the same cache key as `send_head` without them
        answer = await self._send(self._bucket(endpoint, region, bucket, *extra), method, key, query)
        if answer.facts.status in _WRONG_REGION:
            header = answer.response.headers.get("x-amz-bucket-region")
            actual = header or find_element_text(answer.body, "Region")
            if actual and actual != region and is_region(actual):
                self._regions[bucket_id] = actual
                answer = await self._send(self._bucket(endpoint, actual, bucket, *extra), method, key, query)
        return answer

    async def _send(self, bucket: "Bucket", method: str, key: str, query: str) -> _S3Response:
        now = self.now()
        request = bucket.request(method, key, query, now=now)
        answer = await self._http.fetch(request, now)
        facts, response = answer.facts, answer.response
        signature = signature_of((request.headers or {}).get("Authorization"))
        mask = bucket.mask if signature is None else bucket.mask.adding(signature)
        try:
            if method == "HEAD":
                return _S3Response(facts, response, mask)
            limit = _PAGE_BYTES if facts.status < 300 else _ERROR_BYTES
            body = await self._http.read(response, limit)
            return _S3Response(facts, response, mask, None if body is None else mask.mask_bytes(body))
        finally:
            if not response.closed:
                await self._http.release(response)


class Bucket:
    """Addresses and signs requests to one bucket. `signer` is None if they are not signed."""

    def __init__(
        self,
        endpoint: AwsEndpoint,
        region: str,
        name: str,
        extra_headers: _Headers = (),
        *,
        environment: Proxies = DEFAULT_PROXIES,
    ) -> None:
        """`environment`: the proxies of the environment."""
        base = endpoint.base or f"https://{aws_host(region)}"
        scheme, _, rest = base.partition("://")
        host, slash, base_path = rest.partition("/")
        virtual = _is_virtual_hosted(endpoint, name)
        if virtual:
            host = f"{name}.{host}"
        self.origin = f"{scheme}://{host}"
        self.signer = None if endpoint.keys is None else S3Signer(endpoint.keys, region, host, extra_headers)
        self.mask = keys_mask(endpoint.keys, endpoint.proxies, environment)
        self.verify_tls, self.proxies = endpoint.verify_tls, endpoint.proxies
        root = f"{slash}{base_path}" if virtual else f"{slash}{base_path}/{name}"
        self._unsigned = dict(extra_headers) or None
        self._key_prefix = f"{root}/"
        self._bucket_path = f"{root}/" if virtual else root

    def path(self, key: str) -> str:
        """Returns the encoded path of an object, or of the bucket if the key is empty."""
        return self._key_prefix + encoded_path(key) if key else self._bucket_path

    def request(self, method: str, key: str, query: str, *, now: float) -> Request:
        """Returns a signed request for an object, or for the bucket if the key is empty."""
        path = self.path(key)
        headers = self._unsigned if self.signer is None else self.signer.headers(method, path, query, now=now)
        url = f"{self.origin}{path}?{query}" if query else self.origin + path
        return Request(method, url, headers, None, self.verify_tls, HostSource.OPERATOR, proxies=self.proxies)


def _is_virtual_hosted(endpoint: AwsEndpoint, bucket: str) -> bool:
    """Whether the bucket is part of the host, as boto3 decides it."""
    if endpoint.style == "path" or (endpoint.style == "auto" and endpoint.base is not None):
        return False
    return bucket.replace("-", "").isalnum() and bucket.islower() and len(bucket) <= 63


def _list_query(prefix: str, token: str | None, max_keys: int, *, owner: bool = False) -> str:
    parameters = {"list-type": "2", "encoding-type": "url", "prefix": prefix, "max-keys": str(max_keys)}
    if token is not None:
        parameters["continuation-token"] = token
    if owner:
        parameters["fetch-owner"] = "true"
    return encoded_query(parameters)
