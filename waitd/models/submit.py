"""The body of a submit, as the struct that decodes it.

The OpenAPI schema and the error messages derive from the struct.

`msgspec` decodes and type-checks a body in C. It stops at the first error, so a refused body is
explained by the pydantic model that `pydantic_model` builds from the same struct.
"""

from collections.abc import Sequence
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any

import msgspec
from msgspec import NODEFAULT, UNSET, Meta, Raw, Struct, UnsetType, inspect
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from waitd.core.errors import InvalidInput, Problem
from waitd.models.fields import MAX_KEY_LENGTH, MAX_LABEL_NAME, MAX_LABEL_VALUE, MAX_LABELS, MAX_SINKS
from waitd.models.parsing import Strict, parse_model

#: The poke interval of a wait that gives none, unless its kind has its own default, in seconds.
DEFAULT_POKE_INTERVAL = 60.0


class SinkRequest(BaseModel):
    """A destination of the outcome: `kind`, and the parameters of that sink."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    kind: str


_Seconds = Annotated[float, Meta(gt=0)]
_Key = Annotated[str, Meta(min_length=1, max_length=MAX_KEY_LENGTH)]
_Labels = Annotated[
    dict[
        Annotated[str, Meta(min_length=1, max_length=MAX_LABEL_NAME)],
        Annotated[str, Meta(max_length=MAX_LABEL_VALUE)],
    ],
    Meta(max_length=MAX_LABELS),
]
NO_PARAMS, NO_SINKS, NO_SUBMIT = Raw(b"{}"), Raw(b"[]"), Raw(b"null")


def _raw(content: Any, description: str | None = None) -> Meta:
    """Describes a `Raw` field, which its own parser checks; `content` is its pydantic type."""
    return Meta(description=description, extra={"content": content})


class WaitRequest(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The body of `POST /v1/waits`."""

    kind: Annotated[str, Meta(description="What to poke: http, …")]
    params: Annotated[Raw, _raw(dict[str, Any], "That kind's own parameters.")] = NO_PARAMS
    poke_interval: Annotated[
        _Seconds | UnsetType,
        Meta(description="Seconds between pokes.", extra_json_schema={"default": DEFAULT_POKE_INTERVAL}),
    ] = UNSET
    timeout: Annotated[_Seconds | None, Meta(description="Seconds from acceptance; default: a setting.")] = (
        None
    )
    exponential_backoff: bool = False
    max_wait: Annotated[
        _Seconds | None, Meta(description="The longest pause of the backoff, in seconds.")
    ] = None
    soft_fail: bool = False
    silent_fail: bool = False
    sinks: Annotated[Raw, _raw(Annotated[list[SinkRequest], Field(max_length=MAX_SINKS)])] = NO_SINKS
    labels: _Labels = {}
    supersede_key: _Key | None = None
    submit: Annotated[
        Raw,
        _raw(
            dict[str, Any] | None,
            "The job that is submitted before the first poke; that kind's own parameters.",
        ),
    ] = NO_SUBMIT
    wake_on: Annotated[_Key | None, Meta(description="A signal with this key triggers a poke at once.")] = (
        None
    )


class BatchLine(WaitRequest, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One line of `POST /v1/waits:batch`."""

    idempotency_key: _Key | None = None


def explain_refusal(struct: type[WaitRequest], body: Any) -> Sequence[Problem]:
    """Returns everything that is wrong with the form of `body`, a decoded JSON value."""
    try:
        parse_wait(body, struct)
    except InvalidInput as error:
        return error.problems
    return ()


def parse_wait(body: Any, struct: type[WaitRequest] = WaitRequest) -> Any:
    """Parses a decoded body with the pydantic model of `struct`, which reports every error.

    Raises:
        InvalidInput: one problem per error.
    """
    return parse_model(pydantic_model(struct), body)


@cache
def pydantic_model(struct: type[Struct]) -> type[BaseModel]:
    """Builds the pydantic model that has the fields, types and limits of `struct`."""
    info = inspect.type_info(struct)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{struct.__name__} is not a struct")
    fields: dict[str, Any] = {
        field.name: (_annotation(field.type), _field_info(field)) for field in info.fields
    }
    return create_model(struct.__name__, __base__=Strict, __doc__=struct.__doc__, **fields)


def _annotation(kind: inspect.Type) -> Any:  # noqa: PLR0911 - a return for each type
    """Returns the type that pydantic checks a field of this type with."""
    match kind:
        case inspect.Metadata(type=inspect.RawType(), extra=dict() as extra):
            return extra["content"]
        case inspect.Metadata():
            return _annotation(kind.type)
        case inspect.StrType():
            return Annotated[str, StringConstraints(min_length=kind.min_length, max_length=kind.max_length)]
        case inspect.FloatType():
            return Annotated[float, Field(gt=kind.gt, allow_inf_nan=False)]
        case inspect.BoolType():
            return bool
        case inspect.NoneType():
            return None
        case inspect.UnionType():
            return reduce(or_, map(_annotation, kind.types))
        case inspect.DictType():
            key, value = _annotation(kind.key_type), _annotation(kind.value_type)
            return Annotated[dict[key, value], Field(max_length=kind.max_length)]  # type: ignore[valid-type]  # computed
    raise TypeError(f"no pydantic type for {kind}")


def _field_info(field: inspect.Field) -> Any:
    """Returns the default and the description of a field for pydantic."""
    described = dict((isinstance(field.type, inspect.Metadata) and field.type.extra_json_schema) or {})
    default = msgspec.json.decode(field.default) if isinstance(field.default, Raw) else field.default
    if isinstance(default, dict | list):
        described["default_factory"] = type(default)
    elif field.default_factory is not NODEFAULT:
        described["default_factory"] = field.default_factory
    elif default is not NODEFAULT:
        described["default"] = default
    return Field(**described)
