"""`submit` of a preset's wait: the requests that submit, find and cancel a job."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from waitd.core.connections.connection import encode_segment
from waitd.core.errors import InvalidInput
from waitd.models import parse_model
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
    """A submit request. `account`: the connection of its calls, as the wait names it."""

    account: str | None = None

    @property
    def conn_ids(self) -> frozenset[str]:
        """See `waitd.ports.SubmitPlan`."""
        return frozenset() if self.account is None else frozenset((self.account,))


def preset_submit_request(
    preset: Preset, submit: Mapping[str, Any], params: Mapping[str, Any], *, namespace: str
) -> PresetSubmitRequest:
    """Parses `submit` together with the wait's `params`.

    `params` must lack the parameters that come from the job's handle.

    Raises:
        InvalidInput: with pointers relative to the wait.
    """
    table, model = preset.file.submit, preset.submit_model
    if table is None or model is None:
        raise InvalidInput.at("/submit", f"a job of kind {preset.file.kind} cannot be submitted")
    try:
        fields = parse_model(model, dict(submit))
    except InvalidInput as error:
        raise error.below("/submit") from None
    values = _validate_params(preset, table, params)
    handle_values = {name: _Unknown(f"{{handle.{name}}}") for name in table.handle}
    known = {
        **values,
        **{name: getattr(fields, name) for name in table.params},
        _KEY: _Unknown(f"{{{_KEY}}}"),
    }
    cancel = preset.file.cancel
    if fields.cancel_job_on and cancel is None:
        raise InvalidInput.at(
            "/submit/cancel_job_on", f"a job of kind {preset.file.kind} cannot be cancelled"
        )
    try:
        return PresetSubmitRequest(
            params=_call(preset, table, known, values),
            handle=_handle(table.handle),
            message=preset.refusal,
            idempotent=table.idempotent,
            idempotency_header=table.idempotency_header or "Idempotency-Key",
            conflict_statuses=frozenset(table.conflict_statuses),
            adopt=_adopt(preset, table.adopt, known, values),
            cancel=None
            if cancel is None
            else CancelRequest(
                _call(preset, cancel, {**known, **handle_values}, values), frozenset(cancel.gone)
            ),
            handle_into="params",
            # The part of the handle that is a URL: the whole endpoint of a poke.
            location=next(
                (name for name in table.handle if f"{{+{name}}}" in preset.file.request.path), None
            ),
            account=values[preset.file.connection.param],
            namespace=namespace,
            **common_fields(fields),
        )
    except ValueError as error:
        raise InvalidInput.at("/submit", str(error)) from None


class _Unknown(str):
    """A value that is not known yet: it stays a placeholder."""

    __slots__ = ()


def _validate_params(preset: Preset, table: SubmitTable, params: Mapping[str, Any]) -> dict[str, Any]:
    """Validates the wait's parameters, without those that come from the handle."""
    for name in table.handle:
        if name in params:
            raise InvalidInput.at(f"/params/{name}", "omit it: with submit it comes from the submitted job")
    examples = {name: preset.file.params[name].example for name in table.handle}
    try:
        values = preset.validate({**params, **examples})
    except InvalidInput as error:
        raise error.below("/params") from None
    return {name: value for name, value in values.items() if name not in table.handle}


def _call(
    preset: Preset,
    table: SubmitTable | AdoptTable | CancelTable,
    known: Mapping[str, Any],
    values: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns a request as parameters of the kind `http`."""
    call = {
        "method": table.method,
        "endpoint": fill_path(table.path or "", known, _encode),
        "request_timeout": REQUEST_TIMEOUT,
        "http_conn_id": preset.vendor_name(values),
        "request_params": fill_texts(table.query, known) or None,
        "headers": fill_texts(getattr(table, "headers", {}), known) or None,
        "json": fill_template(table.json_body, known),
    }
    return {name: value for name, value in call.items() if value is not None}


def _encode(value: str) -> str:
    return str(value) if isinstance(value, _Unknown) else encode_segment(value)


def _adopt(
    preset: Preset, table: AdoptTable | None, known: Mapping[str, Any], values: Mapping[str, Any]
) -> AdoptRequest | None:
    if table is None:
        return None
    params = None if table.path is None else _call(preset, table, known, values)
    return AdoptRequest(_handle(table.handle), params, table.ours)


def _handle(table: Mapping[str, str]) -> str:
    """Returns the handle as one CEL expression: a map of parameters."""
    return "{" + ", ".join(f"'{name}': {source}" for name, source in table.items()) + "}"
