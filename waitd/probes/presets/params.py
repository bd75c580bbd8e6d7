"""The pydantic models of a preset's `params` and `submit`, built from its file."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, Field, StringConstraints, create_model

from waitd.core.connections.connection import is_conn_id
from waitd.core.errors import InvalidInput
from waitd.models import RequestTimeout, Strict
from waitd.probes.presets.schema import ConnectionTable, ParamTable, PresetFile, Seconds
from waitd.probes.submit.plan import SubmitParams

#: The same as `waitd.core.connections.aws.is_region`, in pydantic's syntax.
_REGION = r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"
#: The default limit of a text, in characters.
_MAX_LENGTH = 1024
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PLAIN: Mapping[str, Any] = {"boolean": bool, "object": dict[str, Any], "array": list[Any]}


def params_model(file: PresetFile) -> type[Strict]:
    """Builds the model of a wait's `params`."""
    connection, params = file.connection, file.params
    fields: dict[str, Any] = {connection.param: _connection_field(connection)}
    if connection.aws_service is not None:
        region = Annotated[str, StringConstraints(pattern=_REGION)]
        fields["region_name"] = (
            region | None,
            Field(default=None, description="The region; default: the connection's."),
        )
    fields.update({name: _field(table, params) for name, table in params.items()})
    fields["not_found_grace"] = (
        Seconds,
        Field(
            default=file.pace.not_found_grace,
            description="Seconds for which the job may be missing before the wait fails.",
        ),
    )
    fields["request_timeout"] = (RequestTimeout, 10.0)
    return create_model(_model_name(file.kind, "Params"), __base__=Strict, **fields)


def submit_model(
    kind: str, params: Mapping[str, ParamTable], on_conflict: Sequence[str]
) -> type[SubmitParams]:
    """Builds the model of a wait's `submit`."""
    fields: dict[str, Any] = {name: _field(table, params) for name, table in params.items()}
    fields["on_conflict"] = (
        Literal[tuple(on_conflict)],
        Field(default=on_conflict[0], description="What to do when a job is running already."),
    )
    return create_model(_model_name(kind, "Submit"), __base__=SubmitParams, **fields)


def check_conn_id(connection: ConnectionTable, conn_id: str | None) -> None:
    """Raises InvalidInput when a conn_id is malformed or missing."""
    if conn_id is None and not connection.optional:
        raise InvalidInput.at(f"/{connection.param}", "a connection is required")
    if conn_id is not None and not is_conn_id(conn_id):
        raise InvalidInput.at(
            f"/{connection.param}", "a conn_id has up to 250 letters, digits and _#!()-.:/\\"
        )


def _connection_field(connection: ConnectionTable) -> Any:
    description = "The connection with address and credentials."
    if connection.default is None and not connection.optional:
        return str, Field(description=description)
    return (str | None if connection.optional else str), Field(
        default=connection.default, description=description
    )


def _field(table: ParamTable, params: Mapping[str, ParamTable]) -> Any:
    kind = _type(table, params)
    if table.required:
        return kind, Field(description=table.description)
    return kind | None, Field(default=table.default, description=table.description)


def _type(table: ParamTable, params: Mapping[str, ParamTable]) -> Any:
    if table.enum is not None:
        return Literal[tuple(table.enum)]
    if table.type == "integer":
        return Annotated[int, Field(ge=0 if table.minimum is None else table.minimum, lt=2**63)]
    if table.type == "string":
        longest = table.max_length or _MAX_LENGTH
        text = Annotated[str, StringConstraints(min_length=1, max_length=longest, pattern=table.pattern)]
        return Annotated[text, AfterValidator(partial(_refuse_url, params))] if table.relative else text
    return _PLAIN[table.type]


def _refuse_url(params: Mapping[str, ParamTable], text: str) -> str:
    if _URL.match(text):
        example = orjson.dumps({name: each.example for name, each in params.items() if each.required})
        raise ValueError(f"it is a URL; give its parts instead, as in {example.decode()}")
    return text


def _model_name(kind: str, what: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]", kind)) + what
