"""The parameters of the kind `http`, and the target that they become.

A target is kept for as long as its wait. It is small: equal waits share everything but the
endpoint.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import quote, urlencode
from weakref import WeakValueDictionary

import orjson
from msgspec import Struct
from pydantic import BeforeValidator, Field, StringConstraints

from waitd.core.connections.connection import Connection, check_endpoint, is_conn_id, join_url
from waitd.core.errors import InvalidInput, Problem
from waitd.core.http.headers import header_problems
from waitd.models import RequestTimeout, Strict, parse_model, pointer
from waitd.models.fields import null_means
from waitd.probes.cel.conditions import Conditions, shared_conditions
from waitd.probes.cel.expressions import ConditionSources
from waitd.probes.cel.response import RESPONSE_ENV
from waitd.probes.submit.placeholders import has_placeholder

#: The longest endpoint, in characters.
MAX_ENDPOINT = 8192
#: The longest endpoint whose folder's origin is cached, in characters.
MAX_CACHED = 512
#: A last segment of a URL that needs no check.
PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")
#: Methods whose answer may be shared between waits: repeating them changes nothing at the target.
SHAREABLE = frozenset({"GET", "HEAD"})
#: The characters that are not percent-encoded.
_URL_SAFE = "".join(map(chr, range(33, 127)))
_STATUS = re.compile(r"[1-5][0-9][0-9]")


def _upper(method: Any) -> Any:
    return method.upper() if isinstance(method, str) else method


class HttpParams(Strict):
    """`params` of the kind `http`: the names of Airflow's HttpSensor, and conditions."""

    endpoint: Annotated[str, StringConstraints(max_length=MAX_ENDPOINT)] = Field(
        default="", description="A path below the connection's base URL, or an absolute URL."
    )
    http_conn_id: Annotated[
        str | None, BeforeValidator(lambda conn_id: None if conn_id == "" else conn_id)
    ] = Field(default=None, description="The connection that knows address and credentials.")
    method: Annotated[
        Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"], BeforeValidator(_upper)
    ] = Field(default="GET", description="The request's method.")
    safe: bool = Field(
        default=False,
        description="The request only reads. Then a POST or PATCH, too, is repeated if the server closed its idle connection.",
    )
    headers: Annotated[dict[str, str], null_means({})] = Field(
        default_factory=dict, description="Request headers; no secrets."
    )
    request_params: Annotated[dict[str, Any], null_means({})] = Field(
        default_factory=dict, description="The query: strings, numbers, or lists of them."
    )
    data: str | None = Field(default=None, description="The request body, as text.")
    json_body: Any = Field(default=None, alias="json", description="The request body, as JSON.")
    response_error_codes_allowlist: Annotated[list[str], null_means(["404"])] = Field(
        default=["404"], description='Statuses that mean "not yet".'
    )
    request_timeout: RequestTimeout = 10.0
    success_when: str | None = Field(default=None, description="CEL; default: a 2xx.")
    failure_when: str | None = Field(default=None, description="CEL; default: never.")
    message: str | None = Field(default=None, description="CEL; a string for people.")
    result: str | None = Field(default=None, description="CEL; the payload. Default: the JSON body.")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class RequestTemplate:
    """A request without its endpoint. Equal templates are one object while one of them is alive."""

    namespace: str
    method: str
    conn_id: str | None
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None
    request_timeout: float
    safe: bool = False


class HttpTarget(Struct, eq=False, gc=False):
    """What a wait requests, and the conditions about the answer.

    Attributes:
        endpoint: percent-encoded: an absolute URL, or a path below the connection's base URL.
        origin: the endpoint's own origin; None when it is the connection's.
        seed: 32 hexadecimal digits, equal for equal requests.
        key: the seed when the answer may be shared, else "".
    """

    template: RequestTemplate
    conditions: Conditions
    endpoint: str
    origin: str | None
    seed: str
    key: str

    @property
    def conn_id(self) -> str | None:
        """The connection, or None."""
        return self.template.conn_id

    @property
    def request_timeout(self) -> float:
        """How many seconds one poke may take."""
        return self.template.request_timeout


class SharedParams(NamedTuple):
    """What a wait's parameters define apart from the endpoint; many waits share it.

    Attributes:
        seed: a hash of the template; the endpoint is added to a copy.
    """

    template: RequestTemplate
    conditions: Conditions
    seed: Any

    def target(self, endpoint: str, origin: str | None, seed: str) -> HttpTarget:
        """Returns the target with this endpoint."""
        key = seed if self.template.method in SHAREABLE else ""
        return HttpTarget(self.template, self.conditions, endpoint, origin, seed, key)


def parse_target(
    params: Mapping[str, Any], *, namespace: str, secret_headers: Sequence[str], known: Connection | None
) -> HttpTarget:
    """Parses `params`; `known` is the connection that they name, if it is cached.

    Raises:
        InvalidInput: with pointers relative to `params`.
    """
    endpoint = params.get("endpoint", "")
    rest = {name: value for name, value in params.items() if name != "endpoint"}
    try:
        shared = parse_shared(orjson.dumps(rest), namespace, tuple(secret_headers))
        origin = _origin(endpoint, shared.template.conn_id, known)
    except (InvalidInput, ValueError, TypeError):
        raise InvalidInput(_problems(params, secret_headers, known)) from None
    endpoint, seed = add_endpoint(shared.seed, endpoint)
    return shared.target(endpoint, origin, seed)


def add_endpoint(template_seed: Any, endpoint: str) -> tuple[str, str]:
    """Returns the encoded endpoint and the target's seed."""
    endpoint = encode_endpoint(endpoint)
    seed = template_seed.copy()
    seed.update(endpoint.encode())
    return endpoint, seed.hexdigest()


def encode_endpoint(endpoint: str) -> str:
    """Percent-encodes an endpoint."""
    return endpoint if endpoint.isascii() else quote(endpoint, safe=_URL_SAFE)


def _origin(endpoint: Any, conn_id: str | None, known: Connection | None) -> str | None:
    """Like `endpoint_origin`.

    Most jobs differ only in the last segment of their URL: the rest is cached.
    """
    if conn_id is None and isinstance(endpoint, str) and len(endpoint) <= MAX_CACHED:
        folder, slash, name = endpoint.rpartition("/")
        if PLAIN_NAME.fullmatch(name):
            try:
                return folder_origin(folder + slash)
            except ValueError:  # such as http://host, which has no folder
                pass
    return endpoint_origin(endpoint, conn_id, known)


@lru_cache(maxsize=4096)
def folder_origin(folder: str) -> str | None:
    """Like `endpoint_origin`, for all endpoints of a folder and a plain name."""
    return endpoint_origin(folder, None, None)


def endpoint_origin(endpoint: Any, conn_id: str | None, known: Connection | None) -> str | None:
    """Returns the origin that an endpoint names; None when the connection has it.

    Raises:
        ValueError: the endpoint is malformed, or does not fit the connection.
    """
    if not isinstance(endpoint, str) or len(endpoint) > MAX_ENDPOINT or not _is_text(endpoint):
        raise ValueError("it is not text, or too long")
    origin = check_endpoint(endpoint)
    if "{" in endpoint and has_placeholder(endpoint):
        raise ValueError("placeholders need a wait with submit")
    if known is not None:
        join_url(known.base_url(), endpoint)
    if conn_id is None and origin is None:
        raise ValueError("without http_conn_id it must be an absolute http:// or https:// URL")
    return None if origin is None else sys.intern(str(origin))


@lru_cache(maxsize=4096)
def parse_shared(rest: bytes, namespace: str, secret_headers: tuple[str, ...]) -> SharedParams:
    """Parses parameters without their endpoint, as JSON.

    Raises InvalidInput, which is not cached.
    """
    http_params = parse_model(HttpParams, orjson.loads(rest))
    if problems := [*_shared_problems(http_params, secret_headers)]:
        raise InvalidInput(problems)
    template = _template_of(http_params, namespace)
    allowlist = frozenset(map(int, http_params.response_error_codes_allowlist))
    conditions = shared_conditions(_sources(http_params), allowlist)
    return SharedParams(template, conditions, template_hash(template))


def _sources(params: HttpParams) -> ConditionSources:
    return ConditionSources(params.success_when, params.failure_when, params.message, params.result)


def _problems(
    params: Mapping[str, Any], secret_headers: Sequence[str], known: Connection | None
) -> Sequence[Problem]:
    """Finds everything that is wrong. Raises InvalidInput when the types are wrong already."""
    http_params = parse_model(HttpParams, dict(params))
    return [*_address_problems(http_params, known), *_shared_problems(http_params, secret_headers)]


def _shared_problems(params: HttpParams, secret_headers: Sequence[str]) -> Iterator[Problem]:
    if params.http_conn_id is not None and not is_conn_id(params.http_conn_id):
        yield Problem("/http_conn_id", "a conn_id has up to 250 letters, digits and _#!()-.:/\\")
    for problem in header_problems(params.headers, secret_headers):
        yield Problem("/headers" + problem.pointer, problem.detail)
    yield from _request_problems(params)
    yield from RESPONSE_ENV.condition_problems(_sources(params))


def http_conn_id(params: Mapping[str, Any]) -> str | None:
    """Returns the connection that unchecked parameters name."""
    conn_id = params.get("http_conn_id")
    return conn_id if isinstance(conn_id, str) and is_conn_id(conn_id) else None


def _address_problems(params: HttpParams, known: Connection | None) -> Iterator[Problem]:
    if not _is_text(params.endpoint):
        yield Problem("/endpoint", "it is not Unicode text")
        return
    try:
        endpoint_origin(params.endpoint, params.http_conn_id, known)
    except ValueError as error:
        yield Problem("/endpoint", str(error))


def _request_problems(params: HttpParams) -> Iterator[Problem]:
    if params.data is not None and params.json_body is not None:
        yield Problem("/json", "set either data or json, not both")
    if params.data is not None and not _is_text(params.data):
        yield Problem("/data", "it is not Unicode text")
    try:
        orjson.dumps(params.json_body)
    except TypeError as error:  # an integer of more than 64 bits, or text that is not Unicode
        yield Problem("/json", str(error))
    for field, value in (("request_params", params.request_params), ("json", params.json_body)):
        if has_placeholder(value):
            yield Problem(pointer([field]), "placeholders need a wait with submit")
    for name, value in params.request_params.items():
        values = value if isinstance(value, list) else [value]
        if not all(map(_is_query_value, [name, *values])):
            yield Problem(pointer(["request_params", name]), "must be a string, a number, or a list of these")
    for index, status in enumerate(params.response_error_codes_allowlist):
        if not _STATUS.fullmatch(status):
            yield Problem(
                pointer(["response_error_codes_allowlist", index]),
                'must be an HTTP status as a string, such as "404"',
            )


def _template_of(params: HttpParams, namespace: str) -> RequestTemplate:
    headers = dict(params.headers)
    body = None if params.data is None else params.data.encode()
    if params.json_body is not None:
        body = orjson.dumps(params.json_body)
        if not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = "application/json"
    return shared_template(
        namespace,
        params.method,
        params.http_conn_id,
        urlencode(params.request_params, doseq=True),
        tuple(headers.items()),
        body,
        params.request_timeout,
        params.safe,
    )


def shared_template(*parts: Any) -> RequestTemplate:
    """Returns the template with these values; equal templates are one object."""
    template = _templates.get(parts)
    if template is None:
        template = _templates[parts] = RequestTemplate(*parts)
    return template


_templates: WeakValueDictionary[tuple[Any, ...], RequestTemplate] = WeakValueDictionary()


def template_hash(template: RequestTemplate) -> Any:
    """Hashes a template; the hash is the same in every process."""
    parts = (
        *(template.namespace, template.method, template.conn_id, template.query),
        *(template.headers, template.body, template.request_timeout),
        *(["safe"] if template.safe else []),
    )
    return blake2b(repr(parts).encode(), digest_size=16)


def _is_query_value(value: object) -> bool:
    if isinstance(value, str):
        return _is_text(value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
