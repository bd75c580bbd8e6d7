"""A condition is explained part by part."""

from types import SimpleNamespace

import pytest

from waitd.probes.cel.explain import Missing, explain, split
from waitd.probes.cel.response import RESPONSE_ENV


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("a", ["a"]),
        ("a && b || c", ["a", "b", "c"]),
        ("(a && b) || (c)", ["a", "b", "c"]),
        ("(a) == (b && c)", ["(a) == (b && c)"]),
        ("a ? b && c : d", ["a ? b && c : d"]),
        ("x.all(i, i && j) && '&& (' == y", ["x.all(i, i && j)", "'&& (' == y"]),
        ("!(a && b) && [c || d][0]", ["!(a && b)", "[c || d][0]"]),
    ],
)
def test_a_condition_is_split_between_its_operators(source: str, parts: list[str]) -> None:
    assert list(split(source)) == parts


def test_each_part_has_its_value_and_what_it_saw() -> None:
    variables = SimpleNamespace(status=200, body={"a": {"b": 1}})
    whole, first, second = explain(RESPONSE_ENV, "status == 200 && body.a.c == 1", variables)
    assert whole.saw == {"status": 200, "body.a.c": Missing(("b",))}
    assert (first.source, first.value, first.saw) == ("status == 200", True, {"status": 200})
    assert (second.value, second.saw) == (whole.value, {"body.a.c": Missing(("b",))})
