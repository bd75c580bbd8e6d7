"""One service's waiters as botocore's models describe them: parameters to requests, answers to responses, and which state a response is.

botocore serializes, parses and matches; nothing here opens a connection.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from waitd.core.errors import Problem
from waitd.models import pointer

#: Protocols whose answers are JSON.
_JSON = frozenset({"json", "rest-json"})
#: What botocore's clients add to every request of a service.
_HEADERS: Mapping[str, Mapping[str, str]] = {"glacier": {"x-amz-glacier-version": "2012-06-01"}}
_STEP = re.compile(r"\.?([^.\[\]()]+)|\[(\d+)\]")
#: The longest look at a value in a message, in characters.
_SHOWN = 80


class AwsResponseError(ValueError):
    """The answer is not one of this service."""


class ServiceEndpoint(NamedTuple):
    """Where a service is, and what its requests are signed for where that is not as usual."""

    url: str
    signing_region: str | None = None
    signing_name: str | None = None


class UnsignedRequest(NamedTuple):
    """A request before it is signed."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None


class AwsService:
    """A service and its waiters.

    Attributes:
        name: boto3's.
        waiters: by boto3's names (`instance_running`) and by the model's own (`InstanceRunning`).
        environment_id: what `AWS_ENDPOINT_URL_<ID>` calls it.
        trouble: why its waiters cannot be used here, or "".
    """

    def __init__(self, name: str, model: Mapping[str, Any], waiters: Mapping[str, Any]) -> None:
        """Imports botocore: not to be made in the loop."""
        import botocore.waiter  # noqa: PLC0415 - large, and only where it is needed
        from botocore import xform_name  # noqa: PLC0415
        from botocore.model import ServiceModel  # noqa: PLC0415

        self.name = name
        self._model = ServiceModel(model, name)
        metadata = model["metadata"]
        self.endpoint_prefix: str = metadata["endpointPrefix"]
        self.signing_name: str = metadata.get("signingName", self.endpoint_prefix)
        self.environment_id = self._model.service_id.replace(" ", "_").upper()
        bearer = metadata.get("signatureVersion") == "bearer"
        self.trouble = "its requests carry a bearer token, no AWS credentials" if bearer else ""
        self.waiters: dict[str, AwsWaiter] = {}
        for own_name, config in waiters.items():
            waiter = AwsWaiter(self, own_name, botocore.waiter.SingleWaiterConfig(config))
            self.waiters[own_name] = self.waiters[xform_name(own_name)] = waiter
        self.names = tuple(sorted(xform_name(own_name) for own_name in waiters))

    @property
    def model(self) -> Any:
        """The service's model, as an object of botocore's."""
        return self._model


class AwsWaiter:
    """One waiter. `name` is the model's own."""

    def __init__(self, service: AwsService, name: str, config: Any) -> None:
        from botocore.parsers import create_parser  # noqa: PLC0415 - see `AwsService`
        from botocore.serialize import create_serializer  # noqa: PLC0415
        from botocore.validate import ParamValidator  # noqa: PLC0415

        self.service = service
        self.name = name
        self.acceptors: tuple[Any, ...] = tuple(config.acceptors)
        self._operation = service.model.operation_model(config.operation)
        self._protocol: str = service.model.resolved_protocol
        # botocore's other serializer validates first; here that is done at submit.
        self._serializer = create_serializer(self._protocol, include_validation=False)
        self._parser = create_parser(self._protocol)
        self._validator = ParamValidator()

    def problems(self, params: Mapping[str, Any]) -> Iterator[Problem]:
        """What the model does not take of these parameters, with pointers below them."""
        shape = self._operation.input_shape
        if shape is None:
            for name in params:
                yield Problem(pointer([name]), "unknown field; there are none")
            return
        # The report in words names no field that a pointer could be made of.
        for kind, where, more in self._validator.validate(params, shape)._errors:  # noqa: SLF001
            path: list[str | int] = [int(index) if index else name for name, index in _STEP.findall(where)]
            yield _problem(kind, path, more)

    def prepared(self, params: Mapping[str, Any], endpoint: str, *, own: bool) -> UnsignedRequest:
        """The request for these parameters. `own`: the endpoint is AWS's own, which gives operations hosts of theirs.

        Raises:
            ValueError: they make none.
        """
        from botocore.awsrequest import create_request_object, prepare_request_dict  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415

        try:
            made = self._serializer.serialize_to_request({**params}, self._operation)
            if not own:
                made.pop("host_prefix", None)
            prepare_request_dict(made, endpoint)
            request = create_request_object(made).prepare()
        except (BotoCoreError, AttributeError, LookupError, TypeError, ValueError):
            raise ValueError("these parameters make no request") from None
        headers = {name: _text(value) for name, value in request.headers.items()}
        headers |= _HEADERS.get(self.service.name, {})
        headers.pop("Content-Length", None)
        body = request.body.encode() if isinstance(request.body, str) else request.body
        return UnsignedRequest(request.method, request.url, headers, bytes(body) if body else None)

    def response(self, status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """The answer as botocore's clients give it, an error among them.

        Raises:
            AwsResponseError: it is none of this service.
        """
        from botocore.awsrequest import HeadersDict  # noqa: PLC0415

        if self._is_foreign(status, body):
            raise AwsResponseError
        answer = {"status_code": status, "headers": HeadersDict(headers), "body": body, "context": {}}
        try:
            response = self._parser.parse(answer, self._operation.output_shape)
        except Exception as error:  # whatever a parser makes of what it was not written for
            raise AwsResponseError from error
        if not isinstance(response, dict):
            raise AwsResponseError
        return response

    def _is_foreign(self, status: int, body: bytes) -> bool:
        """What the parsers would take for an empty answer, or for far more than was sent."""
        if self._protocol in _JSON:
            return 200 <= status < 300 and bool(body) and not body.lstrip().startswith(b"{")
        return b"<!DOCTYPE" in body[:4096]

    def state_of(self, response: Mapping[str, Any]) -> tuple[str, str] | None:
        """The state (`success`, `failure` or `retry`) of the first acceptor that takes the response, and what it saw; None: none does.

        Raises:
            AwsResponseError: the response has not the form that the acceptors look for.
        """
        from jmespath.exceptions import JMESPathError  # noqa: PLC0415 - botocore brings it

        for acceptor in self.acceptors:
            try:
                matched = acceptor.matcher_func(response)
            except JMESPathError as error:
                raise AwsResponseError from error
            if matched:
                return acceptor.state, _seen(acceptor)
        return None

    def glance(self, response: Mapping[str, Any]) -> str:
        """What the first acceptor that names a value sees of it now, for people; "" where that is nothing short."""
        import jmespath  # noqa: PLC0415 - botocore brings it
        from jmespath.exceptions import JMESPathError  # noqa: PLC0415

        argument = next((each.argument for each in self.acceptors if each.argument), None)
        if argument is None or len(argument) > _SHOWN:
            return ""
        try:
            value = jmespath.search(argument, response)
        except JMESPathError:
            return ""
        values = value if isinstance(value, list) else [value]
        words = [str(each) for each in dict.fromkeys(map(str, values))]
        if value is None or not all(isinstance(each, str | bool | int | float) for each in values):
            return ""
        return f"{argument}: {', '.join(words)[:_SHOWN] or 'nothing'}"


def _seen(acceptor: Any) -> str:
    """What an acceptor matched, in words."""
    argument, expected = acceptor.argument, acceptor.expected
    if acceptor.matcher == "status":
        return f"HTTP {expected}"
    if acceptor.matcher == "error":
        return f"error {expected}" if isinstance(expected, str) else "an error" if expected else "no error"
    prefix = {"pathAll": "all of ", "pathAny": "any of "}.get(acceptor.matcher, "")
    return f"{prefix}{argument} is {expected}"


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


_TYPES = {
    "<class 'str'>": "a string", "<class 'int'>": "a whole number", "<class 'float'>": "a number", "<class 'dict'>": "an object",
    "<class 'list'>": "a list", "<class 'bool'>": "a boolean", "<class 'datetime.datetime'>": "a time", "timestamp-string": "a time as text",
}  # fmt: skip


def _problem(kind: str, path: list[str | int], more: Mapping[str, Any]) -> Problem:  # noqa: PLR0911 - a kind of complaint each
    """One complaint of botocore's validator, without quoting a value."""
    if kind == "missing required field":
        return Problem(pointer([*path, more["required_name"]]), "Field required")
    if kind == "unknown field":
        known = ", ".join(sorted(more["valid_names"]))
        return Problem(pointer([*path, more["unknown_param"]]), f"unknown field; known are: {known}")
    if kind.startswith("invalid type"):
        wanted = dict.fromkeys(_TYPES.get(name) for name in more["valid_types"])
        return Problem(
            pointer(path), f"it is to be {' or '.join(name for name in wanted if name) or 'another type'}"
        )
    if kind == "invalid range":
        return Problem(pointer(path), f"at least {more['min_allowed']}")
    if kind == "invalid length":
        return Problem(pointer(path), f"its length is at least {more['min_allowed']}")
    if "members" in more:
        return Problem(pointer(path), f"exactly one of {', '.join(more['members'])}")
    return Problem(pointer(path), kind)
