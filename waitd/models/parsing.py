"""Parses decoded JSON with a pydantic model, and reports each error with a JSON pointer."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, get_args

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
        *path, name = item["loc"]
        names = sorted(_fields(_model_at(model, path)))
        known = f"; known are: {', '.join(names)}" if names else ""
        return f"unknown field{known}{did_you_mean(name, names)}"
    return str(item["msg"]).removeprefix("Value error, ")


def _model_at(model: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel] | None:
    """The model of the object at `path`; None where it may be one of several."""
    models = {model}
    for part in path:  # those that are no field's name are indexes, and pydantic's own marks
        annotations = [type_ for each in models for name, type_ in _fields(each).items() if name == part]
        models = {inner for each in annotations for inner in _models_in(each)} if annotations else models
    return models.pop() if len(models) == 1 else None


def _fields(model: type[BaseModel] | None) -> Mapping[str, Any]:
    """The types of a model's fields by their names in JSON."""
    if model is None:
        return {}
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a type such as `Sequence[Model] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
