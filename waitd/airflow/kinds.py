"""The kinds of waits and their parameters, by which a DAG's arguments are checked and converted.

The parameters of the built-in presets are read from the presets' own files, which needs no package
of the daemon. Those of the other kinds are a table here.
"""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import waitd

#: One file each, named like its kind.
_PRESETS = Path(waitd.__file__).parent / "probes" / "presets" / "data"
_CONDITIONS = dict.fromkeys(("success_when", "failure_when", "message", "result"), "cel")
_AWS = {"aws_conn_id": "string", "region_name": "string", "request_timeout": "number"}
#: The kinds that are written in code: the types of their parameters.
_IN_CODE: Mapping[str, Mapping[str, str]] = {
    "http": {
        "endpoint": "string", "http_conn_id": "string", "method": "string", "safe": "boolean", "headers": "texts",
        "request_params": "object", "data": "string", "json": "any", "response_error_codes_allowlist": "array",
        "request_timeout": "number", **_CONDITIONS,
    },
    "s3_key": {
        "bucket_key": "any", "bucket_name": "string", "wildcard_match": "boolean", "use_regex": "boolean",
        "metadata_keys": "array", "check": "cel", **_AWS,
    },
    "s3_keys_unchanged": {
        "bucket_name": "string", "prefix": "string", "inactivity_period": "number", "min_objects": "integer",
        "previous_objects": "array", "allow_delete": "boolean", "watch": "string", **_AWS,
    },
    "sql": {
        "conn_id": "string", "sql": "string", "parameters": "object", "request_timeout": "number", **_CONDITIONS,
    },
    "signal": {"key": "string", **_CONDITIONS},
    "time": {"at": "string"},
    "aws_waiter": {"service": "string", "waiter": "string", "params": "object", **_AWS},
}  # fmt: skip
_REQUIRED = {
    "s3_key": {"bucket_key"},
    "s3_keys_unchanged": {"bucket_name", "prefix"},
    "sql": {"conn_id", "sql"},
    "signal": {"key"},
    "time": {"at"},
    "aws_waiter": {"service", "waiter"},
}
#: The fields that the `submit` of every kind has, and those of the kind `http`.
_SUBMIT = {"on_conflict": "string", "cancel_job_on": "array", "idempotency_key": "string", "resume": "object"}
_HTTP_SUBMIT = {
    **_SUBMIT, "endpoint": "string", "http_conn_id": "string", "headers": "texts", "request_params": "object",
    "data": "string", "json": "any", "request_timeout": "number", "method": "string", "message": "cel",
    "idempotent": "boolean", "idempotency_header": "string", "conflict_statuses": "array", "adopt": "object",
    "cancel": "object",
}  # fmt: skip


class Param(NamedTuple):
    """One parameter.

    Attributes:
        type: string, integer, number, boolean, object, array; `texts` is an object of strings,
            `cel` a condition, and `any` is not checked.
        required: whether it has no default.
        values: all its values, or None.
        minimum: the least value of an integer.
    """

    type: str
    required: bool = False
    values: Sequence[Any] | None = None
    minimum: int | None = None


class Kind(NamedTuple):
    """A kind of wait.

    Attributes:
        params: its parameters, by name.
        submit: those of its `submit`; None: it submits no job.
        min_poke_interval: the shortest `poke_interval`, in seconds; 0: the kind sets none.
    """

    params: Mapping[str, Param]
    submit: Mapping[str, Param] | None = None
    min_poke_interval: float = 0.0


@cache
def known_kinds() -> Sequence[str]:
    """The names of all kinds that waitd has built in."""
    return sorted([*_IN_CODE, *(file.stem for file in _PRESETS.glob("*.toml"))])


@cache
def find_kind(name: str) -> Kind | None:
    """The built-in kind of this name, or None."""
    if name in _IN_CODE:
        required = _REQUIRED.get(name, set())
        params = {param: Param(kind, param in required) for param, kind in _IN_CODE[name].items()}
        submit = {**_params(_HTTP_SUBMIT), "handle": Param("cel", required=True)} if name == "http" else None
        return Kind(params, submit)
    if name not in known_kinds():
        return None
    return _preset(tomllib.loads((_PRESETS / f"{name}.toml").read_text("utf-8")))


def _preset(file: Mapping[str, Any]) -> Kind:
    connection, submit = file["connection"], file.get("submit")
    needs_connection = "default" not in connection and not connection.get("optional", False)
    params = {connection["param"]: Param("string", needs_connection)}
    if "aws_service" in connection:
        params["region_name"] = Param("string")
    params |= {name: _param(table) for name, table in file["params"].items()}
    params |= _params({"not_found_grace": "number", "request_timeout": "number"})
    submit_params = (
        None
        if submit is None
        else {**{name: _param(table) for name, table in submit.get("params", {}).items()}, **_params(_SUBMIT)}
    )
    return Kind(params, submit_params, float(file.get("pace", {}).get("min_poke_interval", 0.0)))


def _param(table: Mapping[str, Any]) -> Param:
    values = table.get("enum")
    return Param(
        "any" if values else table["type"], table.get("required", False), values, table.get("minimum")
    )


def _params(types: Mapping[str, str]) -> Mapping[str, Param]:
    return {name: Param(kind) for name, kind in types.items()}
