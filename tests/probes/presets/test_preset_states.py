"""Presets of AWS against AWS's own models.

Their lists contain exactly the states of the models, and their requests are valid for the
operations.
"""

import re
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from waitd.probes.presets.loading import built_in_presets
from waitd.probes.presets.templates import fill_template

#: By kind: botocore's service, and the enumeration of the states.
MODELS = {
    "athena.query": ("athena", "QueryExecutionState"),
    "batch.job": ("batch", "JobStatus"),
    "emr.serverless": ("emr-serverless", "JobRunState"),
    "emr.step": ("emr", "StepState"),
    "glue.job": ("glue", "JobRunState"),
    "stepfunctions.execution": ("stepfunctions", "ExecutionStatus"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_the_lists_contain_exactly_the_states_of_awss_model(kind: str) -> None:
    service, name = MODELS[kind]
    model = botocore.session.Session().get_service_model(service)
    state = built_in_presets()[kind].file.state
    assert {*state.success, *state.failure, *state.running} == set(model.shape_for(name).enum)


def test_every_preset_of_aws_is_tested() -> None:
    signed = {kind for kind, preset in built_in_presets().items() if preset.file.connection.aws_service}
    assert signed == set(MODELS)


REQUESTS = [
    (kind, part)
    for kind in MODELS
    for part in ("request", "submit", "cancel")
    if getattr(built_in_presets()[kind].file, part) is not None
]


@pytest.mark.parametrize(("kind", "part"), REQUESTS)
def test_a_request_is_valid_for_its_operation(kind: str, part: str) -> None:
    preset = built_in_presets()[kind]
    request = getattr(preset.file, part)
    service = botocore.session.Session().get_service_model(MODELS[kind][0])
    operation = service.operation_model(_operation(service, request))
    submit = preset.file.submit
    assert submit is not None
    params = preset.example() | {name: table.example for name, table in submit.params.items()}
    params["idempotency_key"] = "0193f9e0-5d0a-7c3a-8000-7b5d4c0e7b0e"
    body = fill_template(request.json_body, params) or {}
    members = operation.input_shape.members
    in_path = {name: "x" for name, shape in members.items() if shape.serialization.get("location") == "uri"}
    assert set(body) <= set(members) - set(in_path)
    report = ParamValidator().validate(body | in_path, operation.input_shape)
    assert not report.has_errors(), report.generate_report()


def _operation(service: Any, request: Any) -> str:
    """Returns the operation that the header names, or else method and path."""
    target = request.headers.get("X-Amz-Target")
    if target is not None:
        assert target.split(".")[0] == service.metadata["targetPrefix"]
        assert request.headers["Content-Type"].endswith(f"json-{service.metadata['jsonVersion']}")
        return str(target.split(".")[1])
    method_and_path = (request.method, re.sub(r"\{[^}]*\}", "{}", request.path))
    [name] = [
        name
        for name in service.operation_names
        if (http := service.operation_model(name).http)
        and (http["method"], re.sub(r"\{[^}]*\}", "{}", http["requestUri"].split("?")[0])) == method_and_path
    ]
    return str(name)
