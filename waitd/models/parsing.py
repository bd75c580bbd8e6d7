"""Parses decoded JSON with a pydantic model, and reports each error with a JSON pointer."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from waitd.core.errors import InvalidInput, Problem
from waitd.core.suggestions import did_you_mean

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """The base of every model of an input: no unknown fields, no conversion between types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def parse_model(model: type[Model], data: Any) -> Model:
    """Parses `data`, a decoded JSON value, as `model`.

    Raises:
        InvalidInput: one problem per error, with a pointer from the root of `data`.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InvalidInput(_problems(model, error)) from None


def pointer(path: Sequence[str | int]) -> str:
    """Returns the JSON pointer (RFC 6901) to the field at `path`."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path if part != "[key]")


def _problems(model: type[BaseModel], error: ValidationError) -> Sequence[Problem]:
    return [Problem(pointer(item["loc"]), _detail(model, item)) for item in error.errors(include_url=False)]


def _detail(model: type[BaseModel], item: Mapping[str, Any]) -> str:
    if item["type"] == "extra_forbidden":
        if len(item["loc"]) != 1:
            return "unknown field"
        names = sorted(field.alias or name for name, field in model.model_fields.items())
        known = f"; known are: {', '.join(names)}" if names else ""
        return f"unknown field{known}{did_you_mean(item['loc'][0], names)}"
    return str(item["msg"]).removeprefix("Value error, ")
