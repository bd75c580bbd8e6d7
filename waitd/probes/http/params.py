"""The parameters of the kind `http`: checked at submit, then kept as a small target that shares what it can with its equals."""

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
from pydantic import Field, StringConstraints

from waitd.core.connections.connection import Connection, Origin, check_endpoint, is_conn_id, join_url
from waitd.core.errors import InvalidInput, Problem
from waitd.core.http.headers import header_problems
from waitd.models import Strict, parsed, pointer
from waitd.probes.cel.evaluation import RESPONSE_ENV, Conditions, shared_conditions
from waitd.probes.cel.expressions import ConditionSources
from waitd.probes.submit.placeholders import has_placeholder

#: The longest endpoint, in characters.
MAX_ENDPOINT = 8192
#: The longest endpoint whose origin is remembered, in characters.
MAX_REMEMBERED = 512
#: A last segment of a path, or the end of a query, with which nothing can be wrong.
PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")
#: The longest one poke may take, in seconds.
MAX_REQUEST_TIMEOUT = 3600.0
#: Methods whose answer may be shared: asking once or twice makes no difference to the target.
SHAREABLE = frozenset({"GET", "HEAD"})
#: Everything that may stand in a URL as it is; what is not ASCII is percent-encoded.
_URL_SAFE = "".join(map(chr, range(33, 127)))
_STATUS = re.compile(r"[1-5][0-9][0-9]")


class HttpParams(Strict):
    """What `params` of a wait of kind `http` may hold: Airflow's HttpSensor's names, and the conditions."""

    endpoint: Annotated[str, StringConstraints(max_length=MAX_ENDPOINT)] = Field(
        default="", description="A path below the connection's base URL, or an absolute URL."
    )
    http_conn_id: str | None = Field(
        default=None, description="The connection that knows address and credentials."
    )
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = Field(
        default="GET", description="The request's method."
    )
    headers: dict[str, str] = Field(default_factory=dict, description="Request headers; no secrets.")
    request_params: dict[str, Any] = Field(
        default_factory=dict, description="The query: strings, numbers, or lists of them."
    )
    data: str | None = Field(default=None, description="The request body, as text.")
    json_body: Any = Field(default=None, alias="json", description="The request body, as JSON.")
    response_error_codes_allowlist: list[str] = Field(
        default=["404"], description='Statuses that mean "not yet".'
    )
    request_timeout: float = Field(
        default=10.0, gt=0, le=MAX_REQUEST_TIMEOUT, description="Seconds one poke may take."
    )
    success_when: str | None = Field(default=None, description="CEL; default: a 2xx.")
    failure_when: str | None = Field(default=None, description="CEL; default: never.")
    message: str | None = Field(default=None, description="CEL; a string for people.")
    result: str | None = Field(default=None, description="CEL; the payload. Default: the JSON body.")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class RequestTemplate:
    """A request but for its endpoint. Equal ones are one object while one of them is alive."""

    namespace: str
    method: str
    conn_id: str | None
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None
    request_timeout: float


class HttpTarget(Struct, eq=False, gc=False):
    """What one wait asks, and how its answer is judged.

    Attributes:
        endpoint: as it is requested: an absolute URL, or a path below the connection's base.
        origin: the endpoint's own origin, or None where the connection has it.
        seed: equal for equal requests, whatever the method: 32 hexadecimal digits.
        key: the seed where the answer may be shared, else "".
    """

    template: RequestTemplate
    rules: Conditions
    endpoint: str
    origin: str | None
    seed: str
    key: str

    @property
    def conn_id(self) -> str | None:
        """The connection that it names, or None."""
        return self.template.conn_id

    @property
    def request_timeout(self) -> float:
        """Seconds that one poke may take."""
        return self.template.request_timeout


class SharedParams(NamedTuple):
    """All that a wait's parameters come to but for the endpoint; many waits have the same."""

    template: RequestTemplate
    rules: Conditions
    #: Hashes what is asked; the endpoint is still to be added, to a copy.
    seed: Any

    def target(self, endpoint: str, origin: str | None, seed: str) -> HttpTarget:
        """The target at an endpoint."""
        key = seed if self.template.method in SHAREABLE else ""
        return HttpTarget(self.template, self.rules, endpoint, origin, seed, key)


def parse_target(
    params: Mapping[str, Any], *, namespace: str, secret_headers: Sequence[str], known: Connection | None
) -> HttpTarget:
    """The target that these parameters name. `known`: their connection, if it is at hand without asking anybody.

    Raises:
        InvalidInput: with pointers relative to `params`.
    """
    endpoint = params.get("endpoint", "")
    rest = {name: value for name, value in params.items() if name != "endpoint"}
    try:
        shape = parse_shared(orjson.dumps(rest), namespace, tuple(secret_headers))
        origin = _origin(endpoint, shape.template.conn_id, known)
    except (InvalidInput, ValueError, TypeError):
        raise InvalidInput(_problems(params, secret_headers, known)) from None
    endpoint, seed = add_endpoint(shape.seed, endpoint)
    return shape.target(endpoint, origin, seed)


def add_endpoint(shape: Any, endpoint: str) -> tuple[str, str]:
    """An endpoint as it is requested, and the seed of what is asked there. `shape`: the hash of everything else."""
    endpoint = encode_endpoint(endpoint)
    seed = shape.copy()
    seed.update(endpoint.encode())
    return endpoint, seed.hexdigest()


def encode_endpoint(endpoint: str) -> str:
    """An endpoint as it is requested."""
    return endpoint if endpoint.isascii() else quote(endpoint, safe=_URL_SAFE)


def _origin(endpoint: Any, conn_id: str | None, known: Connection | None) -> str | None:
    """As `endpoint_origin`, as text. Jobs mostly differ in the last segment of their URL only: what stands before it is looked at once."""
    if conn_id is None and isinstance(endpoint, str) and len(endpoint) <= MAX_REMEMBERED:
        folder, slash, name = endpoint.rpartition("/")
        if PLAIN_NAME.fullmatch(name):
            try:
                return folder_origin(folder + slash)
            except ValueError:  # as in http://host, which ends in no folder
                pass
    return _as_text(endpoint_origin(endpoint, conn_id, known))


@lru_cache(maxsize=4096)
def folder_origin(folder: str) -> str | None:
    """The origin of every endpoint that is `folder` and a plain name, or None where it names none. Raises ValueError."""
    return _as_text(endpoint_origin(folder, None, None))


def _as_text(origin: Origin | None) -> str | None:
    return None if origin is None else sys.intern(str(origin))


def endpoint_origin(endpoint: Any, conn_id: str | None, known: Connection | None) -> Origin | None:
    """The origin that an endpoint names, or None where its connection does. Raises ValueError where it cannot be."""
    if not isinstance(endpoint, str) or len(endpoint) > MAX_ENDPOINT or not _is_text(endpoint):
        raise ValueError("no text, or too long")
    named = check_endpoint(endpoint)
    if "{" in endpoint and has_placeholder(endpoint):
        raise ValueError("a placeholder stands only in a wait that has a submit")
    if known is not None:
        join_url(known.base_url(), endpoint)
    if conn_id is None and named is None:
        raise ValueError("without http_conn_id this is an absolute http:// or https:// URL")
    return named


@lru_cache(maxsize=4096)
def parse_shared(rest: bytes, namespace: str, secret_headers: tuple[str, ...]) -> SharedParams:
    """The shape of parameters without their endpoint, as JSON. Raises InvalidInput, which is not kept."""
    given = parsed(HttpParams, orjson.loads(rest))
    if problems := [*_shape_problems(given, secret_headers)]:
        raise InvalidInput(problems)
    template = _template_of(given, namespace)
    rules = shared_conditions(_sources(given), frozenset(map(int, given.response_error_codes_allowlist)))
    return SharedParams(template, rules, template_hash(template))


def _sources(given: HttpParams) -> ConditionSources:
    return ConditionSources(given.success_when, given.failure_when, given.message, given.result)


def _problems(
    params: Mapping[str, Any], secret_headers: Sequence[str], known: Connection | None
) -> Sequence[Problem]:
    """Everything that is wrong with them. Raises InvalidInput where not even the types are right."""
    given = parsed(HttpParams, dict(params))
    return [*_address_problems(given, known), *_shape_problems(given, secret_headers)]


def _shape_problems(given: HttpParams, secret_headers: Sequence[str]) -> Iterator[Problem]:
    if given.http_conn_id is not None and not is_conn_id(given.http_conn_id):
        yield Problem("/http_conn_id", "up to 250 letters, digits and _#!()-.:/\\")
    for problem in header_problems(given.headers, secret_headers):
        yield Problem("/headers" + problem.pointer, problem.detail)
    yield from _request_problems(given)
    yield from RESPONSE_ENV.condition_problems(_sources(given))


def http_conn_id(params: Mapping[str, Any]) -> str | None:
    """The connection that parameters name which are not checked yet."""
    conn_id = params.get("http_conn_id")
    return conn_id if isinstance(conn_id, str) and is_conn_id(conn_id) else None


def _address_problems(given: HttpParams, known: Connection | None) -> Iterator[Problem]:
    if not _is_text(given.endpoint):
        yield Problem("/endpoint", "it is no Unicode text")
        return
    try:
        endpoint_origin(given.endpoint, given.http_conn_id, known)
    except ValueError as error:
        yield Problem("/endpoint", str(error))


def _request_problems(given: HttpParams) -> Iterator[Problem]:
    if given.data is not None and given.json_body is not None:
        yield Problem("/json", "either data or json, not both")
    if given.data is not None and not _is_text(given.data):
        yield Problem("/data", "it is no Unicode text")
    try:
        orjson.dumps(given.json_body)
    except TypeError as error:  # a number of more than 64 bits, text that is no Unicode
        yield Problem("/json", str(error))
    for field, told in (("request_params", given.request_params), ("json", given.json_body)):
        if has_placeholder(told):
            yield Problem(pointer([field]), "a placeholder stands only in a wait that has a submit")
    for name, value in given.request_params.items():
        values = value if isinstance(value, list) else [value]
        if not all(_is_query_value(one) for one in (name, *values)):
            yield Problem(pointer(["request_params", name]), "a string, a number, or a list of them")
    for index, status in enumerate(given.response_error_codes_allowlist):
        if not _STATUS.fullmatch(status):
            yield Problem(
                pointer(["response_error_codes_allowlist", index]), 'an HTTP status as a string, e.g. "404"'
            )


def _template_of(given: HttpParams, namespace: str) -> RequestTemplate:
    headers = dict(given.headers)
    body = None if given.data is None else given.data.encode()
    if given.json_body is not None:
        body = orjson.dumps(given.json_body)
        if not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = "application/json"
    query = urlencode(given.request_params, doseq=True)
    return shared_template(
        *(namespace, given.method, given.http_conn_id, query),
        *(tuple(headers.items()), body, given.request_timeout),
    )


def shared_template(*parts: Any) -> RequestTemplate:
    """The template of these parts, in their order; equal ones are one object."""
    template = _templates.get(parts)
    if template is None:
        template = _templates[parts] = RequestTemplate(*parts)
    return template


_templates: WeakValueDictionary[tuple[Any, ...], RequestTemplate] = WeakValueDictionary()


def template_hash(template: RequestTemplate) -> Any:
    """A hash of what is asked, but for the endpoint; it is the same in every process."""
    parts = (
        *(template.namespace, template.method, template.conn_id, template.query),
        *(template.headers, template.body, template.request_timeout),
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
