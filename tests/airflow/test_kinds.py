"""The provider's kinds are those that the daemon checks parameters with."""

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from waitd.airflow.kinds import Param, find_kind, known_kinds
from waitd.probes.aws.probe import AwsWaiterParams
from waitd.probes.http.params import HttpParams
from waitd.probes.http.submit import HttpSubmit
from waitd.probes.presets.loading import built_in_presets
from waitd.probes.s3.params import S3KeyParams, S3KeysUnchangedParams
from waitd.probes.signal import SignalParams
from waitd.probes.sql.params import SqlParams
from waitd.probes.time import TimeParams

#: The models of `params` and of `submit`.
MODELS: Mapping[str, tuple[type[BaseModel], type[BaseModel] | None]] = {
    "http": (HttpParams, HttpSubmit),
    "s3_key": (S3KeyParams, None),
    "s3_keys_unchanged": (S3KeysUnchangedParams, None),
    "sql": (SqlParams, None),
    "signal": (SignalParams, None),
    "time": (TimeParams, None),
    "aws_waiter": (AwsWaiterParams, None),
    **{name: (preset.params_model, preset.submit_model) for name, preset in built_in_presets().items()},
}
JSON_TYPES = {"cel": "string", "texts": "object"}


def test_every_kind_is_known() -> None:
    assert known_kinds() == sorted(MODELS)
    assert find_kind("airbyte.jobs") is None


@pytest.mark.parametrize("name", MODELS)
def test_a_kind_has_the_parameters_of_its_models(name: str) -> None:
    kind = find_kind(name)
    assert kind is not None
    for params, model in zip((kind.params, kind.submit), MODELS[name], strict=True):
        assert (params is None) == (model is None)
        if params is not None and model is not None:
            agrees_with_model(params, model)
    if name in built_in_presets():
        assert kind.min_poke_interval in {0.0, built_in_presets()[name].file.pace.min_poke_interval}


def agrees_with_model(params: Mapping[str, Param], model: type[BaseModel]) -> None:
    schema = model.model_json_schema()
    assert set(params) == set(schema["properties"])
    assert {name for name, param in params.items() if param.required} == set(schema.get("required", []))
    for name, param in params.items():
        forms = types_of(schema["properties"][name])
        if param.values is not None:
            assert set(param.values) == {
                value for form in forms for value in form.get("enum", [form.get("const")])
            }
        elif param.type != "any":
            [form] = [form for form in forms if form.get("type") != "null"]
            assert JSON_TYPES.get(param.type, param.type) == form.get("type", "object"), name
            assert param.minimum in {None, form.get("minimum")}


def types_of(field: Any) -> list[Any]:
    return [form for form in field.get("anyOf", [field]) if form.get("type") != "null"]
