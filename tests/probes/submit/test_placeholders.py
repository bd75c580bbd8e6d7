"""Placeholders, and the fields in which they are replaced."""

import pytest

from waitd.probes.submit.placeholders import (
    fill,
    has_placeholder,
    location_part,
    misplaced_placeholders,
    placeholder_names,
)

PARAMS = {
    "endpoint": "/jobs/{handle}/runs?key={idempotency_key}",
    "request_params": {"id": "{handle}"},
    "json": {"id": "{handle}", "note": "job {handle} of {idempotency_key}", "list": ["{handle}", 1]},
    "success_when": "body.done",
}


def test_a_value_keeps_its_type_but_becomes_text_within_a_string() -> None:
    filled = fill(PARAMS, "k", 42)
    assert filled["json"] == {"id": 42, "note": "job 42 of k", "list": [42, 1]}
    assert filled["request_params"] == {"id": 42}
    assert filled["success_when"] == "body.done"


@pytest.mark.parametrize(
    ("handle", "segment"), [("a/b", "a%2Fb"), ("../x", "..%2Fx"), ("a?b#c", "a%3Fb%23c"), ("é", "%C3%A9")]
)
def test_a_value_stays_one_path_segment(handle: str, segment: str) -> None:
    assert fill({"endpoint": "/jobs/{handle}"}, "k", handle)["endpoint"] == f"/jobs/{segment}"


@pytest.mark.parametrize("handle", ["", ".", ".."])
def test_a_value_that_cannot_be_a_segment_is_refused(handle: str) -> None:
    with pytest.raises(ValueError, match="segment"):
        fill({"endpoint": "/jobs/{handle}"}, "k", handle)


def test_a_map_is_filled_by_name() -> None:
    params = {"endpoint": "/p/{handle.project}/{handle.id}", "json": {"id": "{handle.id}"}}
    assert fill(params, "k", {"project": "x", "id": 7}) == {"endpoint": "/p/x/7", "json": {"id": 7}}
    with pytest.raises(ValueError, match="no value id"):
        fill(params, "k", {"project": "x"})
    with pytest.raises(ValueError, match=r"write \{handle\.NAME\}"):
        fill({"json": "{handle}"}, "k", {"id": 1})


def test_an_endpoint_that_is_only_the_handle_is_a_url() -> None:
    assert fill({"endpoint": "{handle}"}, "k", "http://h/a?b=1")["endpoint"] == "http://h/a?b=1"
    assert location_part({"endpoint": "{handle}"}) == ""
    assert location_part({"endpoint": "{handle.url}"}) == "url"
    assert location_part({"endpoint": "/jobs/{handle}"}) is None


def test_placeholders_in_other_fields_are_refused() -> None:
    misplaced = misplaced_placeholders({"data": "{handle}", "success_when": "body.id == '{handle}'"})
    assert [problem.pointer for problem in misplaced] == ["/data", "/success_when"]
    assert placeholder_names(PARAMS) == {"handle", "idempotency_key"}
    assert not has_placeholder({"a": ["{other}", "{ handle }", 1, None]})
