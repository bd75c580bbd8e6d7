"""How specifications are encoded and decoded."""

from types import MappingProxyType
from typing import Any, NamedTuple

import orjson
import pytest

from waitd.core.errors import InvalidInput
from waitd.core.waits.wait import WaitSpec, decode_spec, encode_spec

FULL = WaitSpec(
    *("http", {"endpoint": "/x", "n": [1, 2.5, None, True]}, 5.0, 60.0),
    exponential_backoff=True,
    max_wait=30.0,
    soft_fail=True,
    silent_fail=True,
    sinks=({"kind": "webhook", "url": "u"},),
    labels={"dag_id": "é"},
    supersede_key="k",
    submit={"endpoint": "/y"},
    wake_on="w",
)


class Pair(NamedTuple):
    a: int
    b: int


@pytest.mark.parametrize("spec", [FULL, WaitSpec("http", {}, 5.0, 60.0)])
def test_an_encoded_spec_is_decoded(spec: WaitSpec) -> None:
    assert decode_spec(encode_spec(spec)) == spec


def test_a_field_with_its_default_is_omitted() -> None:
    encoded = orjson.loads(encode_spec(WaitSpec("http", {"endpoint": "/x"}, 5.0, 60.0)))
    assert encoded == {"kind": "http", "params": {"endpoint": "/x"}, "poke_interval": 5.0, "timeout": 60.0}


def test_a_spec_with_all_fields_is_decoded() -> None:
    encoded = {name: getattr(FULL, name) for name in FULL.__struct_fields__}
    assert decode_spec(orjson.dumps(encoded).decode()) == FULL


def test_mappings_of_other_types_are_encoded() -> None:
    params = MappingProxyType({"pair": Pair(1, 2), "one": frozenset({3})})
    assert decode_spec(encode_spec(WaitSpec("http", params, 5.0, 60.0))).params == {
        "pair": [1, 2],
        "one": [3],
    }


def _deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize("value", [object(), "\ud800", _deep(100_000)], ids=["object", "surrogate", "depth"])
def test_a_value_that_is_not_json_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="stored as JSON"):
        encode_spec(WaitSpec("http", {"endpoint": value}, 5.0, 60.0))
