"""Builds the requests of an AWS service's waiters, and evaluates the responses.

botocore serializes, parses and matches. Nothing here opens a connection.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from waitd.core.errors import Problem
from waitd.models import pointer

#: The protocols with JSON responses.
_JSON_PROTOCOLS = frozenset({"json", "rest-json"})
#: Headers that botocore's clients add to every request of a service.
_EXTRA_HEADERS: Mapping[str, Mapping[str, str]] = {"glacier": {"x-amz-glacier-version": "2012-06-01"}}
_PATH_STEP = re.compile(r"\.?([^.\[\]()]+)|\[(\d+)\]")
#: The longest value in a message, in characters.
_MAX_SHOWN = 80


class AwsResponseError(ValueError):
    """The response is not one of this service."""


class ServiceEndpoint(NamedTuple):
    """The URL of a service, and the region and name to sign for if they are not the usual ones."""

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
        name: boto3's name.
        waiters: by boto3's names (`instance_running`) and by the model's (`InstanceRunning`).
        environment_id: its name in `AWS_ENDPOINT_URL_<ID>`.
        unsupported: why its waiters cannot be used, or "".
    """

    def __init__(self, name: str, model: Mapping[str, Any], waiters: Mapping[str, Any]) -> None:
        """Imports botocore: call it in a thread."""
        import botocore.waiter  # noqa: PLC0415 - large, and only needed here
        from botocore import xform_name  # noqa: PLC0415
        from botocore.model import ServiceModel  # noqa: PLC0415

        self.name = name
        #: botocore's `ServiceModel`.
        self.model: Any = ServiceModel(model, name)
        metadata = model["metadata"]
        self.endpoint_prefix: str = metadata["endpointPrefix"]
        self.signing_name: str = metadata.get("signingName", self.endpoint_prefix)
        self.environment_id = self.model.service_id.replace(" ", "_").upper()
        bearer = metadata.get("signatureVersion") == "bearer"
        self.unsupported = (
            "it authorizes requests by a bearer token, not by AWS credentials" if bearer else ""
        )
        self.waiters: dict[str, AwsWaiter] = {}
        for model_name, config in waiters.items():
            waiter = AwsWaiter(self, model_name, botocore.waiter.SingleWaiterConfig(config))
            self.waiters[model_name] = self.waiters[xform_name(model_name)] = waiter
        self.names = tuple(sorted(xform_name(model_name) for model_name in waiters))


class AwsWaiter:
    """One waiter. `name` is the model's name."""

    def __init__(self, service: AwsService, name: str, config: Any) -> None:
        from botocore.parsers import create_parser  # noqa: PLC0415 - see `AwsService`
        from botocore.serialize import create_serializer  # noqa: PLC0415
        from botocore.validate import ParamValidator  # noqa: PLC0415

        self.service = service
        self.name = name
        self.acceptors: tuple[Any, ...] = tuple(config.acceptors)
        self._operation = service.model.operation_model(config.operation)
        self._protocol: str = service.model.resolved_protocol
        # Parameters are validated once, at submit.
        self._serializer = create_serializer(self._protocol, include_validation=False)
        self._parser = create_parser(self._protocol)
        self._validator = ParamValidator()

    def problems(self, params: Mapping[str, Any]) -> Iterator[Problem]:
        """Yields what the model refuses in these parameters, with pointers relative to them."""
        shape = self._operation.input_shape
        if shape is None:
            for name in params:
                yield Problem(pointer([name]), "unknown field; this operation has no parameters")
            return
        # The public report is one text, from which no pointers can be made.
        for kind, where, details in self._validator.validate(params, shape)._errors:  # noqa: SLF001
            path: list[str | int] = [
                int(index) if index else name for name, index in _PATH_STEP.findall(where)
            ]
            yield _problem(kind, path, details)

    def build_request(
        self, params: Mapping[str, Any], endpoint: str, *, aws_endpoint: bool
    ) -> UnsignedRequest:
        """Builds the request with these parameters.

        Args:
            params: the parameters of the operation.
            endpoint: the URL of the service.
            aws_endpoint: whether it is AWS's own, where some operations have a host prefix.

        Raises:
            ValueError: no request can be built.
        """
        from botocore.awsrequest import create_request_object, prepare_request_dict  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415

        try:
            serialized = self._serializer.serialize_to_request({**params}, self._operation)
            if not aws_endpoint:
                serialized.pop("host_prefix", None)
            prepare_request_dict(serialized, endpoint)
            request = create_request_object(serialized).prepare()
        except (BotoCoreError, AttributeError, LookupError, TypeError, ValueError):
            raise ValueError("no request can be built from these parameters") from None
        headers = {
            name: value.decode() if isinstance(value, bytes) else str(value)
            for name, value in request.headers.items()
        }
        headers |= _EXTRA_HEADERS.get(self.service.name, {})
        headers.pop("Content-Length", None)
        body = request.body.encode() if isinstance(request.body, str) else request.body
        return UnsignedRequest(request.method, request.url, headers, bytes(body) if body else None)

    def parse_response(self, status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """Parses a response, or an error, to what botocore's clients return.

        Raises:
            AwsResponseError: it is not a response of this service.
        """
        from botocore.awsrequest import HeadersDict  # noqa: PLC0415

        if self._is_foreign(status, body):
            raise AwsResponseError
        answer = {"status_code": status, "headers": HeadersDict(headers), "body": body, "context": {}}
        try:
            response = self._parser.parse(answer, self._operation.output_shape)
        except Exception as error:  # a parser may raise anything on input that it was not written for
            raise AwsResponseError from error
        if not isinstance(response, dict):
            raise AwsResponseError
        return response

    def _is_foreign(self, status: int, body: bytes) -> bool:
        """Whether the parser would see an empty response in the body, or expand entities."""
        if self._protocol in _JSON_PROTOCOLS:
            return 200 <= status < 300 and bool(body) and not body.lstrip().startswith(b"{")
        return b"<!DOCTYPE" in body[:4096]

    def match(self, response: Mapping[str, Any]) -> tuple[str, str] | None:
        """Returns the state of the first acceptor that matches and what it matched, or None.

        The state is `success`, `failure` or `retry`.

        Raises:
            AwsResponseError: the acceptors cannot be evaluated on this response.
        """
        from jmespath.exceptions import JMESPathError  # noqa: PLC0415 - botocore depends on it

        for acceptor in self.acceptors:
            try:
                matched = acceptor.matcher_func(response)
            except JMESPathError as error:
                raise AwsResponseError from error
            if matched:
                return acceptor.state, _describe(acceptor)
        return None

    def describe_state(self, response: Mapping[str, Any]) -> str:
        """Returns the value that the first acceptor tests, for people; "" if it is not short."""
        import jmespath  # noqa: PLC0415 - botocore depends on it
        from jmespath.exceptions import JMESPathError  # noqa: PLC0415

        argument = next((each.argument for each in self.acceptors if each.argument), None)
        if argument is None or len(argument) > _MAX_SHOWN:
            return ""
        try:
            value = jmespath.search(argument, response)
        except JMESPathError:
            return ""
        values = value if isinstance(value, list) else [value]
        if value is None or not all(isinstance(each, str | bool | int | float) for each in values):
            return ""
        return f"{argument}: {', '.join(dict.fromkeys(map(str, values)))[:_MAX_SHOWN] or 'nothing'}"


def _describe(acceptor: Any) -> str:
    """What an acceptor matches, in words."""
    argument, expected = acceptor.argument, acceptor.expected
    if acceptor.matcher == "status":
        return f"HTTP {expected}"
    if acceptor.matcher == "error":
        return f"error {expected}" if isinstance(expected, str) else "an error" if expected else "no error"
    prefix = {"pathAll": "all of ", "pathAny": "any of "}.get(acceptor.matcher, "")
    return f"{prefix}{argument} is {expected}"


_TYPE_NAMES = {
    "<class 'str'>": "a string", "<class 'int'>": "a whole number", "<class 'float'>": "a number", "<class 'dict'>": "an object",
    "<class 'list'>": "a list", "<class 'bool'>": "a boolean", "<class 'datetime.datetime'>": "a time", "timestamp-string": "a time as text",
}  # fmt: skip


def _problem(kind: str, path: list[str | int], details: Mapping[str, Any]) -> Problem:  # noqa: PLR0911 - one return for each kind
    """One complaint of botocore's validator, without quoting a value."""
    if kind == "missing required field":
        return Problem(pointer([*path, details["required_name"]]), "Field required")
    if kind == "unknown field":
        known = ", ".join(sorted(details["valid_names"]))
        return Problem(pointer([*path, details["unknown_param"]]), f"unknown field; known are: {known}")
    if kind.startswith("invalid type"):
        types = dict.fromkeys(_TYPE_NAMES.get(name) for name in details["valid_types"])
        expected = " or ".join(name for name in types if name) or "of another type"
        return Problem(pointer(path), f"must be {expected}")
    if kind == "invalid range":
        return Problem(pointer(path), f"must be at least {details['min_allowed']}")
    if kind == "invalid length":
        return Problem(pointer(path), f"must have a length of at least {details['min_allowed']}")
    if "members" in details:
        return Problem(pointer(path), f"must have exactly one of {', '.join(details['members'])}")
    return Problem(pointer(path), kind)
