"""A loaded preset: it turns a wait's parameters into a target of the kind `http`."""

from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any

import orjson

from waitd.core.connections.connection import check_endpoint, encode_segment, parse_origin
from waitd.core.errors import InvalidInput
from waitd.core.http.job_answer import JobAnswerKind
from waitd.models import Strict, parse_model
from waitd.probes.http.params import HttpTarget, add_endpoint, shared_template, template_hash
from waitd.probes.presets.connections import vendor_name
from waitd.probes.presets.dialects import DIALECTS, NO_DIALECT
from waitd.probes.presets.evaluation import AnswerRule, JobConditions, JobSources, shared_job_conditions
from waitd.probes.presets.params import check_conn_id, params_model, submit_model
from waitd.probes.presets.schema import PresetFile
from waitd.probes.presets.states import StateItems
from waitd.probes.presets.templates import append_query, fill_path, fill_template, fill_texts
from waitd.probes.submit.plan import SubmitParams


class PresetTarget(HttpTarget, eq=False, gc=False):
    """What a wait requests. Unlike in the kind `http`, requests with any method may be shared.

    Attributes:
        account: the connection whose account the requests use; `aws_default` may be the
            environment's.
        not_found_grace: how many seconds the job may be missing before the wait fails.
    """

    account: str | None
    may_be_absent: bool
    not_found_grace: float

    @property
    def conn_id(self) -> str | None:
        """The connection that must exist. Requests use the completed one (`template.conn_id`)."""
        return None if self.may_be_absent else self.account


class Preset:
    """A loaded preset.

    Attributes:
        file: the tables of its file.
        origin: the file's path, for messages.
    """

    def __init__(self, file: PresetFile, origin: str) -> None:
        self.file = file
        self.origin = origin
        self._sources = _sources(file)
        expressions = " ".join(file.expressions())
        self._used_params = [name for name in file.params if f"params.{name}" in expressions]
        self._content = {} if file.request.json_body is None else {"Content-Type": "application/json"}

    # Built at first use: a model takes milliseconds, and most daemons use two or three kinds.

    @cached_property
    def params_model(self) -> type[Strict]:
        """The model of a wait's `params`."""
        return params_model(self.file)

    @cached_property
    def submit_model(self) -> type[SubmitParams] | None:
        """The model of a wait's `submit`; None when jobs cannot be submitted."""
        table = self.file.submit
        return None if table is None else submit_model(self.file.kind, table.params, table.on_conflict)

    @property
    def refusal(self) -> str | None:
        """The CEL expression for the message of a refusal."""
        return self._sources.refusal

    def validate(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Validates parameters, and adds defaults.

        Raises:
            InvalidInput: with pointers relative to `params`.
        """
        values = parse_model(self.params_model, dict(params)).__dict__
        check_conn_id(self.file.connection, values[self.file.connection.param])
        return values

    def target(self, params: Mapping[str, Any], *, namespace: str) -> PresetTarget:
        """Returns the target of these parameters. Raises as `validate` does."""
        values = self.validate(params)
        request, connection = self.file.request, self.file.connection
        endpoint = append_query(self.path(request.path, values), fill_texts(request.query, values))
        body = fill_template(request.json_body, values)
        template = shared_template(
            *(namespace, request.method, self.vendor_name(values), ""),
            tuple({**self._content, **fill_texts(request.headers, values)}.items()),
            None if body is None else orjson.dumps(body),
            values["request_timeout"],
            request.safe,
        )
        endpoint, seed = add_endpoint(_template_hash(template), endpoint)
        return PresetTarget(
            template,
            self.conditions(values),
            endpoint,
            origin=str(parse_origin(endpoint)) if template.conn_id is None else None,
            seed=seed,
            key="" if request.follow else seed,  # each wait has its own URL after the first answer
            account=values[connection.param],
            # AWS credentials of the environment replace a missing `aws_default`.
            may_be_absent=connection.aws_service is not None and connection.param not in params,
            not_found_grace=values["not_found_grace"],
        )

    def path(self, template: str, values: Mapping[str, Any]) -> str:
        """Fills in a path of the file.

        Raises:
            InvalidInput: a parameter cannot be part of a path.
        """
        for name, value in values.items():
            try:
                if f"{{{name}}}" in template and value is not None:
                    check_endpoint("/" + encode_segment(str(value)))
                elif f"{{+{name}}}" in template:
                    self._check_endpoint(value, values)
            except ValueError as error:
                raise InvalidInput.at(f"/{name}", str(error)) from None
        return fill_path(template, values)

    def _check_endpoint(self, endpoint: str, values: Mapping[str, Any]) -> None:
        """Raises ValueError when the endpoint is malformed or has no origin."""
        if check_endpoint(endpoint) is None and values[self.file.connection.param] is None:
            raise ValueError(
                f"without {self.file.connection.param} it must be an absolute http:// or https:// URL"
            )

    def conditions(self, values: Mapping[str, Any]) -> JobConditions:
        """Returns the conditions of a wait with these parameters."""
        if not self._used_params:
            return shared_job_conditions(self._sources)
        used = orjson.dumps({name: values[name] for name in self._used_params})
        return shared_job_conditions(self._sources._replace(params=used))

    def vendor_name(self, values: Mapping[str, Any]) -> str | None:
        """Returns the name of the completed connection."""
        conn_id = values[self.file.connection.param]
        return None if conn_id is None else vendor_name(conn_id, self.file.kind, values.get("region_name"))

    def example(self) -> dict[str, Any]:
        """Returns example parameters for the documentation."""
        return {name: table.example for name, table in self.file.params.items() if table.example is not None}


#: `template_hash`, cached: few templates are shared by very many waits.
_template_hash = lru_cache(maxsize=4096)(template_hash)


def _sources(file: PresetFile) -> JobSources:
    outcome, state, items = file.outcome, file.state, file.state.items
    dialect = DIALECTS.get(file.dialect or "", NO_DIALECT)
    answers = (AnswerRule(answer.when, JobAnswerKind(answer.means)) for answer in file.answers)
    return JobSources(
        state=state.value or ""
        if items is None
        else StateItems(items.path, tuple(items.where.items()), items.value, items.otherwise),
        success=frozenset(state.success),
        failure=frozenset(state.failure),
        running=frozenset(state.running),
        not_found=frozenset(state.not_found),
        error=outcome.error,
        message=outcome.message,
        refusal=outcome.refusal or dialect.refusal,
        result=outcome.result,
        answers=(*answers, *dialect.answers),
    )
