"""The parameters of a wait and of the job that it submits, parsed by the probe of its kind."""

from collections.abc import Mapping
from typing import Any

from msgspec import MsgspecError, Raw

from waitd.api.server.bodies import MalformedBody, decoded_field
from waitd.api.submission.findings import Findings
from waitd.core.errors import InvalidInput, Problem
from waitd.core.suggestions import did_you_mean
from waitd.models import NO_SUBMIT, WaitRequest
from waitd.ports import Probe, Target

#: `params`, `submit`, and the target: None if the wait submits its job first, or has problems.
ParsedParams = tuple[Mapping[str, Any], Mapping[str, Any] | None, Target | None]


class ParamsParser:
    """Parses `params` and `submit` with the probe of their kind.

    Holds no state but the probes' caches.
    """

    def __init__(self, probes: Mapping[str, Probe]) -> None:
        self._probes = probes

    def parse_cached(self, request: WaitRequest, namespace: str, findings: Findings) -> ParsedParams | None:
        """Parses parameters from the probe's cache of earlier ones; None if they take `parse`."""
        probe, submit = self._probes.get(request.kind), request.submit
        if probe is None or (submit is not NO_SUBMIT and not _is_null(submit)):
            return None
        try:
            cached = probe.parse_json(bytes(request.params), namespace=namespace)
        except (InvalidInput, MsgspecError, ValueError):  # `parse` reports what is wrong
            return None
        if cached is None:
            return None
        target, params = cached
        if findings.policy is not None or target.conn_id is not None:
            findings.check_target("/params", params, target)
        return params, None, target

    async def parse(self, request: WaitRequest, namespace: str, findings: Findings) -> ParsedParams:
        """Parses the parameters of a request; what is wrong with their values goes to `findings`.

        Raises:
            MalformedBody: `params` or `submit` is not an object.
        """
        params = _decoded_object("params", bytes(request.params))
        submit = None if _is_null(request.submit) else _decoded_object("submit", bytes(request.submit))
        probe, target = self._probes.get(request.kind), None
        if probe is None:
            known, alike = ", ".join(sorted(self._probes)), did_you_mean(request.kind, self._probes)
            findings.problems.append(Problem("/kind", f"unknown kind; known are: {known}{alike}"))
            return params, submit, None
        await probe.prepare(params)
        if submit is not None:
            _check_submit(probe, submit, params, namespace, findings, kind=request.kind)
        elif not findings.refuses_params("/params", params):
            target = _parse_target(probe, params, namespace, findings)
        return params, submit, target


def _parse_target(
    probe: Probe, params: Mapping[str, Any], namespace: str, findings: Findings
) -> Target | None:
    try:
        target = probe.parse(params, namespace=namespace)
    except InvalidInput as error:
        findings.problems += error.below("/params").problems
        return None
    findings.check_target("/params", params, target)
    return target


def _check_submit(
    probe: Probe,
    submit: Mapping[str, Any],
    params: Mapping[str, Any],
    namespace: str,
    findings: Findings,
    *,
    kind: str,
) -> None:
    """Checks the parameters of a wait that submits its job, together with what it submits."""
    parts = {"/params": params, "/submit": submit} | {
        f"/submit/{name}": part for name, part in submit.items() if isinstance(part, dict)
    }
    refused = [findings.refuses_params(path, part) for path, part in parts.items()]
    if any(refused):
        return
    try:
        plan = probe.parse_submit(submit, params, namespace=namespace)
    except InvalidInput as error:
        findings.problems += error.problems
        return
    if plan is None:
        findings.problems.append(Problem("/submit", f"a job of kind {kind} cannot be submitted"))
        return
    for conn_id in plan.conn_ids:
        path = next((path for path, part in parts.items() if conn_id in part.values()), "/params")
        findings.check_connection("/submit", conn_id)
        findings.note_connection(conn_id, path, parts[path])


def _is_null(field: Raw) -> bool:
    return bytes(field) == b"null"


def _decoded_object(name: str, text: bytes) -> dict[str, Any]:
    value = decoded_field(text)
    if not isinstance(value, dict):
        raise MalformedBody.at(f"/{name}", "an object is needed")
    return value
