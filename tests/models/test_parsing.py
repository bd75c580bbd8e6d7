"""Problems of parsed JSON say where they are and what is known there."""

import pytest

from waitd.core.errors import InvalidInput
from waitd.models import parse_model
from waitd.probes.http.submit import HttpSubmit
from waitd.probes.presets.schema import PresetFile


@pytest.mark.parametrize(
    ("model", "data", "pointer", "suggested"),
    [
        (HttpSubmit, {"endpont": "/jobs"}, "/endpont", "endpoint"),
        (HttpSubmit, {"adopt": {"enpoint": "/jobs"}}, "/adopt/enpoint", "endpoint"),
        (HttpSubmit, {"resume": {"attemps": 2}}, "/resume/attemps", "attempts"),
        (PresetFile, {"connection": {"schema": "https"}}, "/connection/schema", "scheme"),
        (PresetFile, {"params": {"job_id": {"tpe": "string"}}}, "/params/job_id/tpe", "type"),
    ],
)
def test_an_unknown_field_names_the_known_ones_of_its_own_object(
    model: type[HttpSubmit | PresetFile], data: object, pointer: str, suggested: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_model(model, data)
    [detail] = [problem.detail for problem in refused.value.problems if problem.pointer == pointer]
    assert detail.startswith("unknown field; known are: ")
    assert detail.endswith(f"; did you mean {suggested}?")
