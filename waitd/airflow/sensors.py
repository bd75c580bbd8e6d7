"""Airflow's own HTTP and S3 sensors, with their arguments, waiting in waitd.

`mode` and `deferrable` are taken and mean nothing: no slot is held and no Triggerer needed either way. `tcp_keep_alive*`, too: connections
are waitd's. What belongs to the connection (TLS verification, botocore's configuration) is refused here and set there.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from waitd.airflow.conditions import refuse_callable
from waitd.airflow.operators import WaitdOperator

#: Airflow's `mode`s of a sensor.
_MODES = ("poke", "reschedule")


class _Sensor(WaitdOperator):
    """What the sensors share: a fixed kind, and fields of their own in place of `wait_params`."""

    #: What the daemon calls this kind of wait.
    waits_for: ClassVar[str]
    #: The arguments of Airflow's sensor that go to the wait's `params` under their own names.
    passed_on: ClassVar[tuple[str, ...]]

    def __init__(self, *, mode: str = "poke", **kwargs: Any) -> None:
        if mode not in _MODES:
            raise ValueError(f"The mode must be one of {list(_MODES)}; received {mode!r}.")
        super().__init__(kind=self.waits_for, wait_params={}, **kwargs)
        self.mode = mode

    def parameters(self) -> Mapping[str, Any]:
        """The rendered fields, but for those that say nothing."""
        given = {name: getattr(self, name) for name in self.passed_on}
        return {name: value for name, value in given.items() if value is not None and value != {}}


class WaitdHttpSensor(_Sensor):
    """Airflow's HttpSensor, and besides: `success_when`, `failure_when`, `message` and `result`, conditions in CEL over `status`,
    `headers`, `body` (decoded JSON) and `text`, and `request_timeout`, seconds that one poke may take.

    `http_conn_id` is looked up by waitd; None: `endpoint` is a whole URL. A 5xx, a 429 or no answer at all is poked again, backed off, and
    never fails the task. Of `extra_options` and `request_kwargs`, `timeout` and `json` are known.
    """

    waits_for = "http"
    passed_on = (
        *("endpoint", "http_conn_id", "method", "headers", "response_error_codes_allowlist"),
        *("request_timeout", "success_when", "failure_when", "message", "result"),
    )
    template_fields: Collection[str] = (
        *("endpoint", "request_params", "headers", "http_conn_id"),
        *("request_kwargs", "success_when", "failure_when", "message", "result"),
        *("waitd_conn_id", "airflow_conn_id", "sinks", "labels"),
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
        tcp_keep_alive: bool = True,  # noqa: ARG002 - Airflow's; see the module
        tcp_keep_alive_idle: int = 120,  # noqa: ARG002
        tcp_keep_alive_count: int = 20,  # noqa: ARG002
        tcp_keep_alive_interval: int = 30,  # noqa: ARG002
        deferrable: bool = False,  # noqa: ARG002
        success_when: str | None = None,
        failure_when: str | None = None,
        message: str | None = None,
        result: str | None = None,
        request_timeout: float | None = None,
        **kwargs: Any,
    ) -> None:
        """See the class. Raises ValueError: an argument cannot be kept; at parse time."""
        super().__init__(**kwargs)
        refuse_callable(
            "response_check",
            response_check,
            instead="success_when",
            argument_is="response",
            examples=("body.state == 'SUCCEEDED'", "status == 200 && text.contains('done')"),
        )
        self.request_kwargs = request_kwargs or {}
        self.extra_options = extra_options or {}
        _refuse_unknown("request_kwargs", self.request_kwargs, {"json", "timeout"})
        _refuse_unknown("extra_options", self.extra_options, {"timeout"})
        timeouts = (request_timeout, self.request_kwargs.get("timeout"), self.extra_options.get("timeout"))
        self.endpoint = endpoint
        self.http_conn_id = http_conn_id
        self.method = method
        self.request_params = request_params or {}
        self.headers = headers or {}
        self.response_error_codes_allowlist = response_error_codes_allowlist
        self.success_when = success_when
        self.failure_when = failure_when
        self.message = message
        self.result = result
        self.request_timeout = next((float(given) for given in timeouts if given is not None), None)

    def parameters(self) -> Mapping[str, Any]:
        """As Airflow's HttpHook sends them: `request_params` are the query of a GET, nothing of a HEAD, else the body's form."""
        params = {**super().parameters(), "method": self.method.upper()}
        if isinstance(params.get("headers"), Mapping):
            params["headers"] = {name: str(value) for name, value in params["headers"].items()}
        if "json" in self.request_kwargs:
            params["json"] = self.request_kwargs["json"]
        if not self.request_params or params["method"] == "HEAD":
            return params
        if params["method"] == "GET":
            return {**params, "request_params": dict(self.request_params)}
        return {**params, **_form(self.request_params, params.get("headers", {}))}


class WaitdS3KeySensor(_Sensor):
    """Airflow's S3KeySensor, and besides: `check`, a condition in CEL over `files`, asked for each `bucket_key` about exactly what it
    matched, and `request_timeout`. `use_regex` patterns run on RE2. The task's result is what is known of the files.
    """

    waits_for = "s3_key"
    passed_on = (
        *("bucket_key", "bucket_name", "wildcard_match", "use_regex", "metadata_keys"),
        *("check", "region_name", "request_timeout"),
    )
    template_fields: Collection[str] = (
        *("bucket_key", "bucket_name", "aws_conn_id", "region_name", "check"),
        *("waitd_conn_id", "airflow_conn_id", "sinks", "labels"),
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
        deferrable: bool = False,  # noqa: ARG002 - Airflow's; see the module
        use_regex: bool = False,
        metadata_keys: list[str] | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        botocore_config: None = None,
        check: str | None = None,
        request_timeout: float | None = None,
        **kwargs: Any,
    ) -> None:
        """See the class. Raises ValueError: an argument cannot be kept; at parse time."""
        super().__init__(**kwargs)
        refuse_callable(
            "check_fn",
            check_fn,
            instead="check",
            argument_is="files",
            examples=("files.all(f, f.Size > 1048576)", "size(files) >= 24"),
        )
        _refuse_of_connection(verify=verify, botocore_config=botocore_config)
        self.bucket_key = bucket_key
        self.bucket_name = bucket_name
        self.wildcard_match = wildcard_match
        self.use_regex = use_regex
        self.metadata_keys = metadata_keys
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.check = check
        self.request_timeout = request_timeout

    def parameters(self) -> Mapping[str, Any]:
        """The rendered fields, and the connection: None there means something."""
        return {**super().parameters(), **_account(self.aws_conn_id)}


class WaitdS3KeysUnchangedSensor(_Sensor):
    """Airflow's S3KeysUnchangedSensor, and besides `request_timeout`. Key sets are compared, not their sizes, and a restart of waitd
    does not begin the `inactivity_period` anew.
    """

    waits_for = "s3_keys_unchanged"
    passed_on = (
        *("bucket_name", "prefix", "inactivity_period", "min_objects", "allow_delete"),
        *("region_name", "request_timeout"),
    )
    template_fields: Collection[str] = (
        *("bucket_name", "prefix", "aws_conn_id", "region_name"),
        *("waitd_conn_id", "airflow_conn_id", "sinks", "labels"),
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
        deferrable: bool = False,  # noqa: ARG002 - Airflow's; see the module
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        botocore_config: None = None,
        request_timeout: float | None = None,
        **kwargs: Any,
    ) -> None:
        """See the class. Raises ValueError: an argument cannot be kept; at parse time."""
        super().__init__(**kwargs)
        _refuse_of_connection(verify=verify, botocore_config=botocore_config)
        if inactivity_period < 0:
            raise ValueError("inactivity_period must be non-negative")
        self.bucket_name = bucket_name
        self.prefix = prefix
        self.inactivity_period = inactivity_period
        self.min_objects = min_objects
        self.previous_objects = previous_objects or set()
        self.allow_delete = allow_delete
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.request_timeout = request_timeout

    def parameters(self) -> Mapping[str, Any]:
        """The rendered fields; the keys in their order, so that the same task always says the same."""
        previous = {"previous_objects": sorted(self.previous_objects)} if self.previous_objects else {}
        return {**super().parameters(), **_account(self.aws_conn_id), **previous}


def _account(aws_conn_id: str | None) -> dict[str, Any]:
    """Airflow's default is waitd's, too: unsaid, so that the environment's credentials stand in where there is no such connection."""
    return {} if aws_conn_id == "aws_default" else {"aws_conn_id": aws_conn_id or None}


def _form(data: Any, headers: Mapping[str, str]) -> dict[str, Any]:
    """A body as `requests` sends `data`: text as it is, a mapping as a form."""
    if isinstance(data, str):
        return {"data": data}
    from urllib.parse import urlencode  # noqa: PLC0415 - rare

    form = "application/x-www-form-urlencoded"
    said = any(name.lower() == "content-type" for name in headers)
    return {
        "data": urlencode(data, doseq=True),
        "headers": {**headers, **({} if said else {"Content-Type": form})},
    }


def _refuse_unknown(name: str, given: Mapping[str, Any], known: Collection[str]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(
            f"{name}: waitd cannot keep {', '.join(unknown)}; it knows {', '.join(sorted(known))}. TLS verification and proxies belong "
            "to the connection that waitd uses; what an answer means is said by success_when and failure_when."
        )


def _refuse_of_connection(**given: Any) -> None:
    wrong: Sequence[str] = [name for name, value in given.items() if value is not None]
    if wrong:
        raise ValueError(
            f"{', '.join(wrong)}: this belongs to the connection that waitd uses; set it in its extra."
        )
