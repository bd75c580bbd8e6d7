"""Builds the OpenAPI 3.1 document from the route table, the models, and the daemon's kinds."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from waitd import __version__
from waitd.api.problems import CONTENT_TYPE, PROBLEM_KINDS
from waitd.api.routing import PUBLIC, ApiRoute, RouteAnswer, RouteBody
from waitd.api.server.loopback_guard import JSON
from waitd.models import BatchLine, ProblemDetails, SinkRequest, WaitRequest, pydantic_model
from waitd.ports import Probe, Sink

Json = dict[str, Any]

_COMPONENT = "#/components/schemas/"
_PATTERN = re.compile(r"\{(\w+)(:[^}]*)?\}")
_SCHEMES: Json = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, `waitd_<id>_<secret>`, or a JWT of the identity provider.",
    }
}
_RETRY_AFTER = {
    "description": "Seconds after which to try again.",
    "schema": {"type": "integer", "minimum": 0},
}


def build_document(
    routes: Sequence[ApiRoute],
    probes: Mapping[str, Probe],
    sinks: Mapping[str, Sink],
    *,
    authenticated: bool = False,
) -> Json:
    """Builds the document of the routes that have an `operation`.

    A probe or a sink may have `params_model`, the pydantic model of its parameters, which is then
    part of the document.

    Args:
        routes: the route table.
        probes: the kinds of waits, by name.
        sinks: the kinds of sinks, by name.
        authenticated: whether callers must authenticate.
    """
    described = [route for route in routes if route.operation]
    paths: dict[str, Json] = {}
    for route in described:
        paths.setdefault(_PATTERN.sub(r"{\1}", route.path), {})[route.method.lower()] = _operation(
            route, authenticated
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "waitd",
            "version": __version__,
            "summary": "It waits, so that nothing else has to.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [
            {
                "name": "waits",
                "description": "What to poke, how often, for how long, and where the outcome goes.",
            },
            {"name": "outcomes", "description": "How waits ended, and where that was delivered."},
            {"name": "administration", "description": "API keys, and the audit of changes."},
            {"name": "operation", "description": "Health, metrics and costs of the daemon."},
        ],
        "paths": paths,
        "components": {
            "schemas": _schemas(described, probes, sinks),
            **({"securitySchemes": _SCHEMES} if authenticated else {}),
        },
    }


# ---------------------------------------------------------------- operations


def _operation(route: ApiRoute, authenticated: bool) -> Json:
    operation: Json = {
        "operationId": route.operation,
        "tags": [route.tag],
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": {
            **{str(answer.status): _answer(answer) for answer in route.answers},
            **_problems(route.all_problems()),
        },
    }
    if route.body is not None:
        operation["requestBody"] = _request_body(route.body)
    if route.role is not PUBLIC:
        operation["description"] = f"Requires the role {route.role.title}."
        if authenticated:
            operation["security"] = [{name: []} for name in _SCHEMES]
    return operation


def _parameters(route: ApiRoute) -> list[Json]:
    in_path: list[Json] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name, _ in _PATTERN.findall(route.path)
    ]
    return in_path + [
        {
            "name": parameter.name,
            "in": parameter.where,
            "description": parameter.description,
            "schema": dict(parameter.schema),
            **parameter.extra,
        }
        for parameter in route.parameters
    ]


def _request_body(body: RouteBody) -> Json:
    no_fields = {"type": "object", "additionalProperties": False}
    schema = _schema_of(body.content_type, body.models) if body.models else no_fields
    example = {} if body.example is None else {"example": body.example}
    return {
        "description": body.description,
        "required": body.required,
        "content": {body.content_type: {"schema": schema, **example}},
    }


def _answer(answer: RouteAnswer) -> Json:
    described: Json = {
        "description": answer.description,
        "content": {name: {"schema": _schema_of(name, answer.models)} for name in answer.content_types},
    }
    if answer.headers:
        described["headers"] = {
            name: {"description": text, "required": True, "schema": {"type": "string"}}
            for name, text in answer.headers.items()
        }
    if answer.links:
        described["links"] = {name: dict(link) for name, link in answer.links.items()}
    return described


def _schema_of(content_type: str, models: Sequence[type[BaseModel] | type[Struct]]) -> Json:
    if content_type == JSON:
        return _one_of(models) if models else {"type": "object"}
    return _lines(models) if models else {"type": "string"}


def _lines(models: Sequence[type[BaseModel] | type[Struct]]) -> Json:
    names = ", ".join(f"`{model.__name__}`" for model in models)
    # OpenAPI 3.1 cannot describe a sequence of JSON values.
    return {"type": "string", "description": f"JSON lines, each of the form of the schema {names}."}


def _one_of(models: Sequence[type[BaseModel] | type[Struct]]) -> Json:
    references = [{"$ref": _COMPONENT + model.__name__} for model in models]
    return references[0] if len(references) == 1 else {"oneOf": references}


def _problems(names: Sequence[str]) -> Json:
    by_status: dict[int, list[str]] = {}
    for name in sorted(names, key=lambda name: PROBLEM_KINDS[name].status):
        by_status.setdefault(PROBLEM_KINDS[name].status, []).append(name)
    return {str(status): _problem(some) for status, some in by_status.items()}


def _problem(names: Sequence[str]) -> Json:
    reference = {"$ref": _COMPONENT + ProblemDetails.__name__}
    described: Json = {
        "description": "; ".join(f"`/problems/{name}`: {PROBLEM_KINDS[name].title}" for name in names) + ".",
        "content": {CONTENT_TYPE: {"schema": reference}},
    }
    if all(PROBLEM_KINDS[name].retry_after is not None for name in names):
        described["headers"] = {"Retry-After": _RETRY_AFTER}
    return described


# ---------------------------------------------------------------- schemas


def _schemas(routes: Sequence[ApiRoute], probes: Mapping[str, Probe], sinks: Mapping[str, Sink]) -> Json:
    bodies = {model for route in routes if route.body for model in route.body.models}
    accepted = {_as_pydantic(model) for model in bodies | {WaitRequest, BatchLine}}
    of_kinds = {getattr(part, "params_model", None) for part in (*probes.values(), *sinks.values())}
    returned = {model for route in routes for answer in route.answers for model in answer.models}
    models: set[tuple[type[BaseModel], JsonSchemaMode]] = {
        *((model, "validation") for model in accepted.union(filter(None, of_kinds))),
        *((model, "serialization") for model in returned | {ProblemDetails}),
    }
    by_name = sorted(models, key=lambda model: (model[1], model[0].__name__))
    _, schema = models_json_schema(by_name, ref_template=_COMPONENT + "{model}")
    schemas: Json = schema["$defs"]
    _show_wait_kinds(schemas, probes)
    _show_sink_kinds(schemas, sinks)
    return dict(sorted(schemas.items()))


def _as_pydantic(model: type[BaseModel] | type[Struct]) -> type[BaseModel]:
    return model if issubclass(model, BaseModel) else pydantic_model(model)


def _show_wait_kinds(schemas: Json, probes: Mapping[str, Probe]) -> None:
    """Adds a schema for each kind of wait, and makes `WaitRequest` one of them."""
    general = schemas[WaitRequest.__name__]
    variants: dict[str, str] = {}
    for kind, probe in sorted(probes.items()):
        model = probe.params_model
        params = {"$ref": _COMPONENT + model.__name__} if model else general["properties"]["params"]
        properties = {**general["properties"], "kind": {"const": kind}, "params": params}
        variants[kind] = _title(kind) + "Wait"
        schemas[variants[kind]] = {**general, "title": variants[kind], "properties": properties}
    schemas[WaitRequest.__name__] = _variants(general["description"], variants)
    schemas[BatchLine.__name__]["properties"]["kind"] = {"enum": sorted(probes)}


def _show_sink_kinds(schemas: Json, sinks: Mapping[str, Sink]) -> None:
    """Adds a schema for each kind of sink, and makes `SinkRequest` one of them."""
    general = schemas[SinkRequest.__name__]
    variants: dict[str, str] = {}
    for kind, sink in sorted(sinks.items()):
        model = getattr(sink, "params_model", None)
        own = schemas[model.__name__] if model else general
        variants[kind] = _title(kind) + "Sink"
        schemas[variants[kind]] = {
            **own,
            "title": variants[kind],
            "properties": {**own["properties"], "kind": {"const": kind}},
            "required": ["kind", *(name for name in own.get("required", ()) if name != "kind")],
        }
    schemas[SinkRequest.__name__] = _variants(general["description"], variants)


def _variants(description: str, variants: Mapping[str, str]) -> Json:
    references = {kind: _COMPONENT + name for kind, name in variants.items()}
    return {
        "description": description,
        "oneOf": [{"$ref": reference} for reference in references.values()],
        "discriminator": {"propertyName": "kind", "mapping": references},
    }


def _title(kind: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]", kind))
