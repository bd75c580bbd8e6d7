"""The OpenAPI document, and the page that shows it without calling other hosts."""

import re
from typing import Any

import pytest
from api_answers import problem_of
from api_fakes import Api, PlainProbe, PlainSink
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from pydantic import Field

from waitd.api.follow.event_ids import EventIds, OpaqueEventIds
from waitd.api.openapi import build_document
from waitd.api.problems import PROBLEM_KINDS
from waitd.core.auth.number_cipher import CIPHERTEXTS
from waitd.models import MAX_BODY, STATES, Strict


class PlainParams(Strict):
    """The parameters of a plain wait."""

    endpoint: str = Field(description="What to poke.")


class FaxParams(Strict):
    number: int


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


async def test_the_document_is_valid_openapi(api: Api) -> None:
    validate(await api.get("/openapi.json"))


async def test_every_route_is_described_except_the_files_of_the_page(api: Api) -> None:
    document = await api.get("/openapi.json")
    served = {
        (resource.canonical, route.method.lower())
        for resource in api.client.app.router.resources()
        for route in resource
        if route.method != "HEAD" and resource.canonical != "/docs/{name}"
    }
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == served
    ids = [operation["operationId"] for operation in operations(document)]
    assert len(ids) == len(set(ids))


async def test_every_kind_of_problem_is_the_answer_of_some_operation(api: Api) -> None:
    text = str((await api.get("/openapi.json"))["paths"])
    outside = {"no-such-route", "method-not-allowed", "internal-error"}
    assert {name for name in PROBLEM_KINDS if f"/problems/{name}`" in text} == set(PROBLEM_KINDS) - outside


async def test_the_description_of_last_event_id_accepts_every_event_id(api: Api) -> None:
    """Opaque ids have up to 20 digits."""
    parameters = (await api.get("/openapi.json"))["paths"]["/v1/events"]["get"]["parameters"]
    [schema] = [parameter["schema"] for parameter in parameters if parameter["name"] == "Last-Event-ID"]
    check = Draft202012Validator(schema)
    ids = [OpaqueEventIds(secret).encode(seq) for secret in (1, 2**63) for seq in range(50)]
    assert max(len(str(event_id)) for event_id in ids) == 20
    for event_id in (0, EventIds().encode(2**63 - 1), CIPHERTEXTS - 1, *ids):
        assert check.is_valid(str(event_id))
    for text in ("", "x", "-1", "1" * 21, "1.5"):
        assert not check.is_valid(text)


async def test_links_lead_to_existing_operations(api: Api) -> None:
    document = await api.get("/openapi.json")
    by_id = {operation["operationId"]: operation for operation in operations(document)}
    links = [
        link
        for operation in operations(document)
        for answer in operation["responses"].values()
        for link in answer.get("links", {}).values()
    ]
    assert links
    for link in links:
        names = {parameter["name"] for parameter in by_id[link["operationId"]]["parameters"]}
        assert set(link.get("parameters", ())) <= names


async def test_bodies_are_described_by_the_models_that_check_them(api: Api) -> None:
    document = await api.get("/openapi.json")
    schemas = document["components"]["schemas"]
    assert schemas["PlainWait"]["additionalProperties"] is False
    assert schemas["PlainWait"]["properties"]["kind"] == {"const": "plain"}
    assert schemas["WaitRequest"]["discriminator"]["mapping"].keys() == {"http", "plain"}
    assert schemas["WaitView"]["properties"]["state"]["enum"] == list(STATES)
    assert schemas["WaitView"]["properties"]["created_at"]["format"] == "date-time"
    assert str(MAX_BODY) in document["paths"]["/v1/waits"]["post"]["requestBody"]["description"]


async def test_parameters_of_kinds_are_described_if_probes_and_sinks_have_a_model() -> None:
    class ModelProbe(PlainProbe):
        params_model = PlainParams

    probe, sink = ModelProbe(), PlainSink()
    sink.params_model = FaxParams  # type: ignore[attr-defined]
    schemas = build_document(
        [], {"plain": probe, "other.kind": PlainProbe()}, {"fax": sink, "plain": PlainSink()}
    )["components"]["schemas"]
    assert schemas["PlainWait"]["properties"]["params"] == {"$ref": "#/components/schemas/PlainParams"}
    assert schemas["OtherKindWait"]["properties"]["params"]["type"] == "object"
    fax = schemas["FaxSink"]
    assert fax["properties"].keys() == {"kind", "number"}
    assert sorted(fax["required"]) == ["kind", "number"]
    check = Draft202012Validator(
        {"$ref": "#/components/schemas/SinkRequest", "components": {"schemas": schemas}}
    )
    assert check.is_valid({"kind": "fax", "number": 1})
    assert not check.is_valid({"kind": "fax", "number": "1"})
    assert not check.is_valid({"kind": "fax", "number": 1, "colour": 1})


async def test_the_page_loads_only_what_is_served_here(api: Api) -> None:
    page = await api.client.get("/docs")
    text = await page.text()
    assert (page.status, page.content_type) == (200, "text/html")
    assert "://" not in text
    sources = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', text)
    assert len(sources) == 3
    for source in sources:
        asset = await api.client.get(f"/{source}")
        assert asset.status == 200
        assert asset.content_type == ("text/css" if source.endswith("css") else "text/javascript")
        assert asset.headers["X-Content-Type-Options"] == "nosniff"
        assert await asset.read()
    start = await (await api.client.get("/docs/start.js")).text()
    assert 'url: "openapi.json"' in start
    assert "validatorUrl: null" in start


async def test_the_page_may_load_and_call_nothing_else(api: Api) -> None:
    policy = (await api.client.get("/docs")).headers["Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert (rules["default-src"], rules["script-src"], rules["connect-src"]) == ("'none'", "'self'", "'self'")
    assert (rules["frame-ancestors"], rules["base-uri"], rules["form-action"]) == ("'none'",) * 3
    assert "http" not in policy
    assert "unsafe" not in rules["script-src"]


@pytest.mark.parametrize(
    "name", ["__init__.py", "redoc.js", "..%2f__init__.py", "%2e%2e/url.json", "swagger_bundle.js"]
)
async def test_other_files_are_not_served(api: Api, name: str) -> None:
    response = await api.client.get(f"/docs/{name}", allow_redirects=False)
    await problem_of(response, 404, "no-such-route")


async def test_the_page_checks_the_host_too(api: Api) -> None:
    response = await api.client.get("/docs", headers={"Host": "evil.example"})
    await problem_of(response, 421, "misdirected")
