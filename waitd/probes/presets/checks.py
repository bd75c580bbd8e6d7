"""Finds mistakes in a preset's file that types cannot express: placeholders, expressions, lists."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from waitd.models import Strict
from waitd.probes.cel.expressions import CelEnvironment
from waitd.probes.presets.evaluation import LANGUAGE
from waitd.probes.presets.schema import CallTable, CancelTable, PresetFile, SubmitTable
from waitd.probes.presets.states import is_path
from waitd.probes.presets.templates import placeholders
from waitd.probes.submit.plan import HANDLE_ENV, SubmitParams

#: Parameters that every preset may use.
COMMON = frozenset({"region_name"})
IDEMPOTENCY_KEY = "idempotency_key"


class PresetMistake(NamedTuple):
    """A mistake in a file: its key, as `[table] key`, and what is wrong."""

    key: str
    detail: str

    def __str__(self) -> str:
        return f"{self.key}: {self.detail}"


def find_mistakes(file: PresetFile) -> Iterator[PresetMistake]:
    """Finds all mistakes in a file whose types are right."""
    yield from _request_mistakes(file)
    yield from _state_mistakes(file)
    yield from _expression_mistakes(file)
    if file.submit is not None:
        yield from _submit_mistakes(file, file.submit)
    if file.cancel is not None:
        yield from _cancel_mistakes(file, file.cancel)
    yield from _param_mistakes(file)


def _request_mistakes(file: PresetFile) -> Iterator[PresetMistake]:
    known = set(file.params) | COMMON
    yield from _unknown_placeholders("[request]", file.request, known)
    for name in placeholders(file.request.path):
        table = file.params.get(name.removeprefix("+"))
        if table is not None and not table.required and table.default is None:
            yield PresetMistake(
                "[request] path", f"{name} may be missing: make it required, or give it a default"
            )
    if file.request.follow and file.request.method != "GET":
        yield PresetMistake("[request] follow", "needs method GET")


def _unknown_placeholders(table: str, call: CallTable, known: set[str]) -> Iterator[PresetMistake]:
    for key, template in call.model_dump(
        by_alias=True, include={"path", "query", "headers", "json_body"}
    ).items():
        for name in placeholders(template):
            if name.removeprefix("+") not in known:
                yield PresetMistake(f"{table} {key}", f"{{{name}}} is not a parameter")


def _state_mistakes(file: PresetFile) -> Iterator[PresetMistake]:
    state = file.state
    if state.items is not None and not is_path(state.items.path):
        yield PresetMistake("[state.items] path", "must be a path below body, such as body.status.conditions")
    if state.items is not None and state.items.otherwise not in state.listed:
        yield PresetMistake("[state.items] otherwise", "must be on one of the lists")
    if len(set(map(type, state.listed))) > 1:
        yield PresetMistake("[state]", "the lists mix numbers and strings; use one type")


def _expression_mistakes(file: PresetFile) -> Iterator[PresetMistake]:
    if file.state.value is not None and not is_path(file.state.value):
        yield from _cel_mistakes("[state] value", file.state.value, {"STRING", "INT"})
    for key, source in file.outcome:
        if source is not None:
            yield from _cel_mistakes(f"[outcome] {key}", source, None if key == "result" else {"STRING"})
    for index, answer in enumerate(file.answers):
        yield from _cel_mistakes(f"[[answers]] {index + 1} when", answer.when, {"BOOL"})


def _cel_mistakes(
    key: str, source: str, allowed_types: set[str] | None, language: CelEnvironment = LANGUAGE
) -> Iterator[PresetMistake]:
    try:
        type_name = language.compile(source).type_name
    except ValueError as error:
        yield PresetMistake(key, str(error))
        return
    if allowed_types is not None and type_name not in {*allowed_types, "DYN"}:
        yield PresetMistake(
            key, f"1:1: it evaluates to {type_name}, {' or '.join(sorted(allowed_types))} is needed"
        )


def _submit_mistakes(file: PresetFile, submit: SubmitTable) -> Iterator[PresetMistake]:
    known = set(file.params) | set(submit.params) | COMMON | {IDEMPOTENCY_KEY}
    yield from _unknown_placeholders("[submit]", submit, known)
    for name in submit.handle:
        if name not in file.params:
            yield PresetMistake(f"[submit.handle] {name}", "is not a parameter of this kind")
    for name in sorted(set(submit.params) & set(file.params)):
        yield PresetMistake(f"[submit.params.{name}]", "is a parameter of the wait already")
    for name in submit.params:
        if hasattr(SubmitParams, name) or name in SubmitParams.model_fields:
            yield PresetMistake(f"[submit.params.{name}]", "this name is taken; choose another")
    yield from _handle_mistakes("[submit.handle]", submit.handle)
    if file.outcome.refusal is not None:  # it is evaluated on the answer to the submitting call, too
        yield from _cel_mistakes("[outcome] refusal", file.outcome.refusal, {"STRING"}, HANDLE_ENV)
    if submit.adopt is not None:
        yield from _handle_mistakes("[submit.adopt.handle]", submit.adopt.handle)
    named = set(placeholders([submit.path, submit.query, submit.json_body]))
    if submit.idempotent and submit.idempotency_header is None and IDEMPOTENCY_KEY not in named:
        yield PresetMistake(
            "[submit] idempotent",
            "the key is not sent: use {idempotency_key} or idempotency_header",
        )


def _handle_mistakes(table: str, handle: Mapping[str, str]) -> Iterator[PresetMistake]:
    for name, source in handle.items():
        yield from _cel_mistakes(f"{table} {name}", source, None, HANDLE_ENV)


def _cancel_mistakes(file: PresetFile, cancel: CancelTable) -> Iterator[PresetMistake]:
    if file.submit is None:
        yield PresetMistake("[cancel]", "needs a [submit]: waitd cancels only jobs that it submitted")
    submit_params = file.submit.params if file.submit is not None else ()
    yield from _unknown_placeholders(
        "[cancel]", cancel, {*file.params, *submit_params, *COMMON, IDEMPOTENCY_KEY}
    )


def _param_mistakes(file: PresetFile) -> Iterator[PresetMistake]:
    if not file.params:
        yield PresetMistake("[params]", "no parameter identifies the job")
    calls = [call for call in (file.request, file.submit, file.cancel) if call is not None]
    templates = [[call.path, call.query, call.headers, call.json_body] for call in calls]
    used = {name.removeprefix("+") for name in placeholders(templates)}
    expressions = " ".join(file.expressions())
    for name, table in file.params.items():
        if name in {file.connection.param, "not_found_grace", "request_timeout", *COMMON}:
            yield PresetMistake(f"[params.{name}]", "every preset has this parameter")
        if name not in used and f"params.{name}" not in expressions:
            yield PresetMistake(f"[params.{name}]", "is never used")
        if hasattr(Strict, name):
            yield PresetMistake(f"[params.{name}]", "this name is taken; choose another")
        if table.enum is not None and table.default is not None and table.default not in table.enum:
            yield PresetMistake(f"[params.{name}] default", "must be in enum")
