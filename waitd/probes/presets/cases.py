"""Runs a preset's test cases (`[[golden]]`): a vendor's answers and their verdicts.

The answers come from a server on a loopback port, so that a case checks the request, too. A preset
that reads one state from the body is also tested without a state and with an unknown one.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from aiohttp import web

from waitd.core.connections.connection import Connection
from waitd.core.http.job_answer import JobState
from waitd.core.waits.verdict import VERDICT_NAMES, Verdict
from waitd.core.waits.wait import EMPTY_PROGRESS, Progress, record_verdict
from waitd.metrics import Tally
from waitd.ports import Authorization
from waitd.probes.cel.response import ResponseVariables, lowercase_headers
from waitd.probes.http.probe import HttpProbe
from waitd.probes.presets.connections import VendorConnections
from waitd.probes.presets.operations import operation_probe
from waitd.probes.presets.preset import Preset, PresetTarget
from waitd.probes.presets.probe import PresetProbe
from waitd.probes.presets.schema import CaseTable
from waitd.probes.presets.templates import fill_template

UNKNOWN_STATE_NAME = "WAITD_NEVER_HEARD_OF_IT"
_UNKNOWN_STATE_NUMBER = 987_654

#: Answers with status 200 that contain no job's state.
STATELESS_ANSWERS: Mapping[str, tuple[str, bytes]] = {
    "HTML with 200": ("text/html", b"<!doctype html><title>Sign in</title>"),
    "truncated JSON": ("application/json", b'{"status": {"sta'),
    "an empty body": ("application/json", b""),
    "a list": ("application/json", b"[]"),
    "a number": ("application/json", b"17"),
    "null": ("application/json", b"null"),
    "another object": ("application/json", b'{"never": {"heard": ["of"]}}'),
}


class PresetCase(NamedTuple):
    """A test case. `expected`: the verdict's fields by name; `verdict` is the name of its type."""

    name: str
    params: Mapping[str, Any]
    status: int
    headers: Mapping[str, str]
    body: bytes
    expected: Mapping[str, Any]
    request: str | None = None
    request_json: Any = None


class CaseResult(NamedTuple):
    """The result of a case; `why` is empty when it passed."""

    case: PresetCase
    why: str


@dataclass
class _VendorServer:
    """A server that answers as `case` says, and records the request."""

    case: PresetCase | None = None
    requested: str = ""
    requested_json: Any = None

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requested = f"{request.method} {request.raw_path}"
        self.requested_json = orjson.loads(body) if body else None
        assert self.case is not None  # noqa: S101 - only the case's probe knows the port
        return web.Response(status=self.case.status, headers=self.case.headers, body=self.case.body)


@dataclass
class _CaseConnections:
    """Resolves every conn_id to the test server, without credentials."""

    url: str
    connections: dict[str, Connection] = field(default_factory=dict)

    async def get(self, conn_id: str) -> Connection:
        extra = {"auth_type": "none", "region_name": "eu-west-1", "endpoint_url": self.url}
        return self.connections.setdefault(conn_id, Connection(conn_id, host=self.url, extra=extra))

    async def refresh(self, conn_id: str) -> Connection:
        return await self.get(conn_id)

    def cached_any(self, conn_id: str) -> Connection | None:
        return self.connections.get(conn_id)

    cached_fresh = cached_any

    def cached_authorization(self, connection: Connection) -> Authorization | None:  # noqa: ARG002 - the port's shape
        return Authorization()

    async def authorize(
        self,
        connection: Connection,  # noqa: ARG002 - the port's shape
        *,
        refused: Authorization | None = None,  # noqa: ARG002 - the port's shape
    ) -> Authorization:
        return Authorization()


@dataclass(frozen=True)
class _Poked:
    target: PresetTarget
    progress: Progress = field(default_factory=Progress)


async def run_cases(preset: Preset, *, pooled: bool = True) -> Sequence[CaseResult]:
    """Runs all cases of a preset. `pooled`: see `HttpProbe`."""
    vendor = _VendorServer()
    async with _serve(vendor) as url, _probe(preset, url, pooled=pooled) as probe:
        return [CaseResult(case, await _run_case(case, vendor, probe, url)) for case in build_cases(preset)]


@asynccontextmanager
async def _serve(vendor: _VendorServer) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", vendor.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _probe(preset: Preset, url: str, *, pooled: bool) -> AsyncIterator[PresetProbe]:
    create = operation_probe if preset.file.request.follow else HttpProbe
    tables = {preset.file.kind: preset.file.connection}
    connections = VendorConnections(_CaseConnections(url), tables, now=lambda: 0.0)
    async with create(connections, secret_headers=(), pooled=pooled) as http:
        yield PresetProbe(preset, http, connections, Tally(), now=lambda: 0.0)


async def _run_case(case: PresetCase, vendor: _VendorServer, probe: PresetProbe, url: str) -> str:
    """Runs a case; returns why it failed, or ""."""
    vendor.case = case
    params = {name: url + value if value == "{server}" else value for name, value in case.params.items()}
    target = probe.parse({probe.preset.file.connection.param: "golden", **params}, namespace="default")
    [verdict] = await probe.poke([_Poked(target)])
    if verdict.reason == "not_found" and case.expected.get("verdict") == "failure":
        # the clock of the cases stands at 0, so the job has been missing for its whole grace period
        progress = record_verdict(EMPTY_PROGRESS, verdict, -target.not_found_grace)
        [verdict] = await probe.poke([_Poked(target, progress)])
    failures = [*_differences(case.expected, verdict)]
    if case.request is not None and vendor.requested != case.request:
        failures.append(f"requested {vendor.requested!r} instead of {case.request!r}")
    if case.request_json is not None and vendor.requested_json != case.request_json:
        failures.append(f"sent {vendor.requested_json!r} instead of {case.request_json!r}")
    return "; ".join(failures)


def _differences(expected: Mapping[str, Any], verdict: Verdict) -> Iterator[str]:
    for name, value in expected.items():
        actual = VERDICT_NAMES[type(verdict)] if name == "verdict" else getattr(verdict, name, None)
        if actual != value:
            yield f"{name} is {actual!r} instead of {value!r}"


# ---------------------------------------------------------------- the cases


def build_cases(preset: Preset) -> Iterator[PresetCase]:
    """Builds all cases of a preset: those of its file and those of every preset."""
    file = preset.file
    for table in file.golden:
        if table.each is None:
            yield _case(preset, table, table.name or "", None, _expected(table))
            continue
        for state in getattr(file.state, table.each):
            yield _case(preset, table, f"{table.each}: {state!r}", state, _expected(table, state))
    conditions = preset.conditions(preset.validate({**preset.example(), file.connection.param: "golden"}))
    if not conditions.needs_body(200):
        return
    for name, (content_type, body) in STATELESS_ANSWERS.items():
        headers = {"Content-Type": content_type}
        expected = {"verdict": "unreachable", "reason": "malformed_answer"}
        yield PresetCase(name, preset.example(), 200, headers, body, expected)
    table_of_states = next((table for table in file.golden if table.each is not None), None)
    if table_of_states is not None and file.state.items is None:
        unknown = _UNKNOWN_STATE_NUMBER if isinstance(file.state.success[0], int) else UNKNOWN_STATE_NAME
        expected = {"verdict": "pending", "reason": "unknown_state"}
        yield _case(preset, table_of_states, "an unknown state", unknown, expected)


def uncovered_states(preset: Preset) -> Sequence[JobState]:
    """Returns the listed states that no case covers."""
    covered = set()
    for case in build_cases(preset):
        values = preset.validate({**case.params, preset.file.connection.param: "golden"})
        response = ResponseVariables(case.status, lowercase_headers(case.headers), case.body, None)
        covered.add(preset.conditions(values).state_of(response))
    return [state for state in preset.file.state.listed if state not in covered]


def _case(
    preset: Preset, table: CaseTable, name: str, state: JobState | None, expected: Mapping[str, Any]
) -> PresetCase:
    body, headers = (table.body or "").replace("{state}", str(state)).encode(), table.headers
    if table.json_body is not None:
        headers = {"Content-Type": "application/json", **headers}
        body = orjson.dumps(
            table.json_body if state is None else fill_template(table.json_body, {"state": state})
        )
    params = {**preset.example(), **table.params}
    return PresetCase(name, params, table.status, headers, body, expected, table.request, table.request_json)


def _expected(table: CaseTable, state: JobState | None = None) -> dict[str, Any]:
    expected = table.model_dump(include={"verdict", "reason", "message", "payload"}, exclude_unset=True)
    if state is not None and "message" in expected:
        expected["message"] = expected["message"].replace("{state}", str(state))
    return expected
