"""`submit` of a wait of a preset's kind: its tables become the calls that submit, find and cancel a job."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from waitd.core.connections.connection import encode_segment
from waitd.core.errors import InvalidInput
from waitd.models import parsed
from waitd.probes.presets.preset import Preset
from waitd.probes.presets.schema import AdoptTable, CancelTable, SubmitTable
from waitd.probes.presets.templates import fill_path, fill_template, fill_texts
from waitd.probes.submit.plan import (
    REQUEST_TIMEOUT,
    AdoptRequest,
    CancelRequest,
    SubmitRequest,
    common_fields,
)

_KEY = "idempotency_key"


@dataclass(frozen=True, slots=True)
class PresetSubmitRequest(SubmitRequest):
    """`account`: the connection that its calls are made with, as the wait names it."""

    account: str | None = None

    @property
    def conn_ids(self) -> frozenset[str]:
        """See `waitd.ports.SubmitPlan`."""
        return frozenset() if self.account is None else frozenset((self.account,))


def preset_submit_request(
    preset: Preset, submit: Mapping[str, Any], params: Mapping[str, Any], *, namespace: str
) -> PresetSubmitRequest:
    """The request that `submit` and the wait's `params` come to.

    The parameters that the handle gives may be missing in `params`.

    Raises:
        InvalidInput: with pointers relative to the wait.
    """
    table, model = preset.file.submit, preset.submit_model
    if table is None or model is None:
        raise InvalidInput.at("/submit", f"a job of kind {preset.file.kind} cannot be submitted")
    try:
        own = parsed(model, dict(submit))
    except InvalidInput as error:
        raise error.below("/submit") from None
    given = _given(preset, table, params)
    later = {name: _Later(f"{{handle.{name}}}") for name in table.handle}
    known = {**given, **{name: getattr(own, name) for name in table.params}, _KEY: _Later(f"{{{_KEY}}}")}
    if own.cancel_job_on and preset.file.cancel is None:
        raise InvalidInput.at(
            "/submit/cancel_job_on", f"a job of kind {preset.file.kind} cannot be cancelled"
        )
    try:
        call = _call(preset, table, known, given)
        adopt = _adopt(preset, table.adopt, known, given)
        cancel = _cancel(preset, preset.file.cancel, {**known, **later}, given)
    except ValueError as error:
        raise InvalidInput.at("/submit", str(error)) from None
    return PresetSubmitRequest(
        params=call,
        handle=_handle(table.handle),
        message=preset.refusal,
        idempotent=table.idempotent,
        idempotency_header=table.idempotency_header or "Idempotency-Key",
        conflict_statuses=frozenset(table.conflict_statuses),
        adopt=adopt,
        cancel=cancel,
        handle_into="params",
        location=_location(preset, table),
        account=given[preset.file.connection.param],
        namespace=namespace,
        **common_fields(own),
    )


def _location(preset: Preset, table: SubmitTable) -> str | None:
    """Which part of the handle is a URL: the one that a poke takes as its whole endpoint."""
    return next((name for name in table.handle if f"{{+{name}}}" in preset.file.request.path), None)


class _Later(str):
    """What is filled in when it is known: it stays a placeholder."""

    __slots__ = ()


def _given(preset: Preset, table: SubmitTable, params: Mapping[str, Any]) -> dict[str, Any]:
    """The wait's parameters without those that the handle gives."""
    early = [name for name in table.handle if name in params]
    if early:
        raise InvalidInput.at(f"/params/{early[0]}", "with submit, the job that was submitted gives it")
    examples = {name: preset.file.params[name].example for name in table.handle}
    try:
        given = preset.checked({**params, **examples})
    except InvalidInput as error:
        raise error.below("/params") from None
    return {name: value for name, value in given.items() if name not in table.handle}


def _call(
    preset: Preset,
    table: SubmitTable | AdoptTable | CancelTable,
    known: Mapping[str, Any],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """A request as parameters of kind `http`."""
    call: dict[str, Any] = {
        "method": table.method,
        "endpoint": fill_path(table.path or "", known, _encoded),
        "request_timeout": REQUEST_TIMEOUT,
    }
    conn_id = preset.vendor_name(given)
    if conn_id is not None:
        call["http_conn_id"] = conn_id
    if query := fill_texts(table.query, known):
        call["request_params"] = query
    if headers := fill_texts(getattr(table, "headers", {}), known):
        call["headers"] = headers
    if (body := fill_template(table.json_body, known)) is not None:
        call["json"] = body
    return call


def _encoded(value: str) -> str:
    return str(value) if isinstance(value, _Later) else encode_segment(value)


def _adopt(
    preset: Preset, table: AdoptTable | None, known: Mapping[str, Any], given: Mapping[str, Any]
) -> AdoptRequest | None:
    if table is None:
        return None
    params = None if table.path is None else _call(preset, table, known, given)
    return AdoptRequest(_handle(table.handle), params, table.ours)


def _cancel(
    preset: Preset, table: CancelTable | None, known: Mapping[str, Any], given: Mapping[str, Any]
) -> CancelRequest | None:
    if table is None:
        return None
    return CancelRequest(_call(preset, table, known, given), frozenset(table.gone))


def _handle(table: Mapping[str, str]) -> str:
    """The map of parameters that an answer gives, as one expression."""
    return "{" + ", ".join(f"'{name}': {source}" for name, source in table.items()) + "}"
