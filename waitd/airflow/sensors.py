"""Drop-in replacements for Airflow's HTTP and S3 sensors, whose waiting is done by waitd.

They take the arguments of Airflow's sensors. `mode`, `deferrable` and `tcp_keep_alive*` are
accepted and ignored: a waiting task never holds a slot, and the connections are waitd's. Arguments
that belong to the connection (`verify`, `botocore_config`) are refused; set them in its extra.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from waitd.airflow.arguments import COMMON_TEMPLATE_FIELDS, as_texts
from waitd.airflow.conditions import refuse_callable
from waitd.airflow.operators import WaitdOperator

#: The values of `mode` in Airflow's sensors.
_MODES = ("poke", "reschedule")


class _Sensor(WaitdOperator):
    """Base of the sensors: the kind is fixed, and `wait_params` are built from arguments."""

    #: The kind of the wait.
    wait_kind: ClassVar[str]
    #: The arguments that are passed to the wait's `params` under the same name.
    param_names: ClassVar[tuple[str, ...]]
    parameters_argument = ""

    # No constructor here: Airflow's metaclass makes each one cost as much as ten arguments.

    def check_arguments(self, mode: str) -> None:
        """Checks the arguments when the DAG is parsed, as far as they are known."""
        if mode not in _MODES:
            raise ValueError(f"The mode must be one of {list(_MODES)}; received {mode!r}.")
        self.check_parameters(_Sensor.parameters(self))

    def parameters(self) -> Mapping[str, Any]:
        """The rendered arguments, without empty ones."""
        values = {name: getattr(self, name) for name in self.param_names}
        # Only mappings are compared: a task's output refuses to be.
        return {
            name: value
            for name, value in values.items()
            if value is not None and (value or not isinstance(value, Mapping))
        }


class WaitdHttpSensor(_Sensor):
    """Wait for an HTTP endpoint, with the arguments of Airflow's HttpSensor and some more.

    A 5xx status, a 429 or a missing answer never fails the task: the endpoint is poked again, with
    backoff.

    Args:
        http_conn_id: the connection, which waitd resolves. None: `endpoint` is a complete URL.
        success_when: CEL condition that ends the wait with success. It may use `status`, `headers`,
            `body` (the decoded JSON) and `text`. Default: a 2xx status.
        failure_when: CEL condition that ends the wait as failed.
        message: CEL expression for the outcome's message.
        result: CEL expression for the task's result. Default: the JSON body.
        request_timeout: timeout of one poke, in seconds.
        request_kwargs: only `json` and `timeout` are supported.
        extra_options: only `timeout` is supported.
        response_check: not supported; the error shows the `success_when` to write instead.
    """

    wait_kind = "http"
    param_names = (
        *("endpoint", "http_conn_id", "method", "headers", "response_error_codes_allowlist"),
        *("request_timeout", "success_when", "failure_when", "message", "result"),
    )
    template_fields: Collection[str] = (
        *("endpoint", "request_params", "headers", "http_conn_id"),
        *("request_kwargs", "success_when", "failure_when", "message", "result"),
        *COMMON_TEMPLATE_FIELDS,
    )
    template_fields_renderers = {"request_params": "json", "headers": "json", "sinks": "json"}  # noqa: RUF012 - Airflow's own form

    def __init__(
        self,
        *,
        endpoint: str,
        http_conn_id: str | None = "http_default",
        method: str = "GET",
        request_params: dict[str, Any] | None = None,
        request_kwargs: dict[str, Any] | None = None,
        headers: dict[str, Any] | None = None,
        response_error_codes_allowlist: list[str] | None = None,
        response_check: None = None,
        extra_options: dict[str, Any] | None = None,
        tcp_keep_alive: bool = True,  # noqa: ARG002 - Airflow's, ignored; see the module
        tcp_keep_alive_idle: int = 120,  # noqa: ARG002
        tcp_keep_alive_count: int = 20,  # noqa: ARG002
        tcp_keep_alive_interval: int = 30,  # noqa: ARG002
        deferrable: bool = False,  # noqa: ARG002
        success_when: str | None = None,
        failure_when: str | None = None,
        message: str | None = None,
        result: str | None = None,
        request_timeout: float | None = None,
        mode: str = "poke",
        **kwargs: Any,
    ) -> None:
        """See the class. Raises ValueError, at parse time, if an argument is not supported."""
        super().__init__(kind=self.wait_kind, wait_params={}, **kwargs)
        refuse_callable(
            "response_check",
            response_check,
            instead="success_when",
            argument_is="response",
            examples=("body.state == 'SUCCEEDED'", "status == 200 && text.contains('done')"),
        )
        self.request_kwargs = request_kwargs
        self.extra_options = extra_options
        self.endpoint = endpoint
        self.http_conn_id = http_conn_id
        self.method = method
        self.request_params = request_params
        self.headers = headers
        self.response_error_codes_allowlist = response_error_codes_allowlist
        self.success_when = success_when
        self.failure_when = failure_when
        self.message = message
        self.result = result
        self.request_timeout = request_timeout
        self._check_requests_arguments()
        self.check_arguments(mode)

    def _check_requests_arguments(self) -> None:
        _refuse_unknown("request_kwargs", self.request_kwargs, {"json", "timeout"})
        _refuse_unknown("extra_options", self.extra_options, {"timeout"})

    def parameters(self) -> Mapping[str, Any]:
        """The rendered arguments, sent like Airflow's HttpHook does.

        `request_params` are the query of a GET and the form in the body of other requests. They are
        ignored for HEAD.
        """
        self._check_requests_arguments()
        options, extra = self.request_kwargs or {}, self.extra_options or {}
        timeouts = (self.request_timeout, options.get("timeout"), extra.get("timeout"))
        timeout = next((float(value) for value in timeouts if value is not None), None)
        params = {**super().parameters(), "method": self.method.upper()}
        if timeout is not None:
            params["request_timeout"] = timeout
        if self.headers:
            params["headers"] = as_texts(self.headers)
        if "json" in options:
            params["json"] = options["json"]
        if not self.request_params or params["method"] == "HEAD":
            return params
        if params["method"] == "GET":
            return {**params, "request_params": dict(self.request_params)}
        return {**params, **_form_body(self.request_params, params.get("headers", {}))}


class WaitdS3KeySensor(_Sensor):
    """Wait for S3 keys, with the arguments of Airflow's S3KeySensor and some more.

    Regular expressions (`use_regex`) have RE2's syntax. The task's result is the attributes of the
    files.

    Args:
        check: CEL condition over `files`. It is evaluated for each `bucket_key`, on exactly the
            keys that it matches, and must be true for all of them.
        request_timeout: timeout of one poke, in seconds.
        check_fn: not supported; the error shows the `check` to write instead.
        verify: not supported; set it in the extra of the AWS connection.
        botocore_config: not supported; set it in the extra of the AWS connection.
    """

    wait_kind = "s3_key"
    param_names = (
        *("bucket_key", "bucket_name", "wildcard_match", "use_regex", "metadata_keys"),
        *("check", "region_name", "request_timeout"),
    )
    template_fields: Collection[str] = (
        *("bucket_key", "bucket_name", "aws_conn_id", "region_name", "check"),
        *COMMON_TEMPLATE_FIELDS,
    )
    template_fields_renderers = {"sinks": "json"}  # noqa: RUF012 - Airflow's own form

    def __init__(
        self,
        *,
        bucket_key: str | list[str],
        bucket_name: str | None = None,
        wildcard_match: bool = False,
        check_fn: None = None,
        verify: None = None,
        deferrable: bool = False,  # noqa: ARG002 - Airflow's, ignored; see the module
        use_regex: bool = False,
        metadata_keys: list[str] | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        botocore_config: None = None,
        check: str | None = None,
        request_timeout: float | None = None,
        mode: str = "poke",
        **kwargs: Any,
    ) -> None:
        """See the class. Raises ValueError, at parse time, if an argument is not supported."""
        super().__init__(kind=self.wait_kind, wait_params={}, **kwargs)
        refuse_callable(
            "check_fn",
            check_fn,
            instead="check",
            argument_is="files",
            examples=("files.all(f, f.Size > 1048576)", "size(files) >= 24"),
        )
        _refuse_connection_arguments(verify=verify, botocore_config=botocore_config)
        self.bucket_key = bucket_key
        self.bucket_name = bucket_name
        self.wildcard_match = wildcard_match
        self.use_regex = use_regex
        self.metadata_keys = metadata_keys
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.check = check
        self.request_timeout = request_timeout
        self.check_arguments(mode)

    def parameters(self) -> Mapping[str, Any]:
        """The rendered arguments, and the connection, for which None has a meaning."""
        return {**super().parameters(), **_connection_param(self.aws_conn_id)}


class WaitdS3KeysUnchangedSensor(_Sensor):
    """Wait until the keys below a prefix stay unchanged, with the arguments of Airflow's
    S3KeysUnchangedSensor.

    It compares the keys themselves, not only their number. A restart of waitd does not restart the
    `inactivity_period`.

    Args:
        watch: `"etag"`: a key that is written again with another ETag or size is a change, too.
        request_timeout: timeout of one poke, in seconds.
        verify: not supported; set it in the extra of the AWS connection.
        botocore_config: not supported; set it in the extra of the AWS connection.
    """

    wait_kind = "s3_keys_unchanged"
    param_names = (
        *("bucket_name", "prefix", "inactivity_period", "min_objects", "allow_delete", "watch"),
        *("region_name", "request_timeout"),
    )
    template_fields: Collection[str] = (
        *("bucket_name", "prefix", "aws_conn_id", "region_name"),
        *COMMON_TEMPLATE_FIELDS,
    )
    template_fields_renderers = {"sinks": "json"}  # noqa: RUF012 - Airflow's own form

    def __init__(
        self,
        *,
        bucket_name: str,
        prefix: str,
        verify: None = None,
        inactivity_period: float = 60 * 60,
        min_objects: int = 1,
        previous_objects: set[str] | None = None,
        allow_delete: bool = True,
        deferrable: bool = False,  # noqa: ARG002 - Airflow's, ignored; see the module
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        botocore_config: None = None,
        watch: str | None = None,
        request_timeout: float | None = None,
        mode: str = "poke",
        **kwargs: Any,
    ) -> None:
        """See the class. Raises ValueError, at parse time, if an argument is not supported."""
        super().__init__(kind=self.wait_kind, wait_params={}, **kwargs)
        _refuse_connection_arguments(verify=verify, botocore_config=botocore_config)
        if inactivity_period < 0:
            raise ValueError("inactivity_period must be non-negative")
        self.bucket_name = bucket_name
        self.prefix = prefix
        self.inactivity_period = inactivity_period
        self.min_objects = min_objects
        self.previous_objects = previous_objects or set()
        self.allow_delete = allow_delete
        self.watch = watch
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.request_timeout = request_timeout
        self.check_arguments(mode)

    def parameters(self) -> Mapping[str, Any]:
        """The rendered arguments.

        Keys are sorted, so that the same task always submits the same wait.
        """
        previous = {"previous_objects": sorted(self.previous_objects)} if self.previous_objects else {}
        return {**super().parameters(), **_connection_param(self.aws_conn_id), **previous}


def _connection_param(aws_conn_id: str | None) -> dict[str, Any]:
    """The connection, unless it is the default of Airflow and waitd.

    Without it, waitd falls back to the environment's credentials if there is no such connection.
    """
    return {} if aws_conn_id == "aws_default" else {"aws_conn_id": aws_conn_id or None}


def _form_body(data: Any, headers: Mapping[str, str]) -> dict[str, Any]:
    """A request body like the `data` of `requests`: text unchanged, a mapping as a form."""
    if isinstance(data, str):
        return {"data": data}
    from urllib.parse import urlencode  # noqa: PLC0415 - rarely needed

    form = "application/x-www-form-urlencoded"
    has_type = any(name.lower() == "content-type" for name in headers)
    return {
        "data": urlencode(data, doseq=True),
        "headers": {**headers, **({} if has_type else {"Content-Type": form})},
    }


def _refuse_unknown(name: str, values: object, supported: Collection[str]) -> None:
    unknown = sorted(set(values) - set(supported)) if isinstance(values, Mapping) else ()
    if unknown:
        raise ValueError(
            f"{name}: {', '.join(unknown)} is not supported, only {', '.join(sorted(supported))}. Set TLS verification "
            "and proxies in the connection that waitd uses, and use success_when and failure_when to evaluate the answer."
        )


def _refuse_connection_arguments(**values: Any) -> None:
    refused: Sequence[str] = [name for name, value in values.items() if value is not None]
    if refused:
        raise ValueError(
            f"{', '.join(refused)}: not supported as an argument; set it in the extra of the connection that waitd uses."
        )
