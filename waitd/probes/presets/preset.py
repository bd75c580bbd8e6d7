"""A preset's file becomes what the machinery of kind `http` runs on: a target for each wait, and a request for each job to submit."""

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import orjson

from waitd.core.connections.connection import check_endpoint, encode_segment, parse_origin
from waitd.core.errors import InvalidInput
from waitd.core.http.job_answer import JobAnswerKind
from waitd.models import Strict, parsed
from waitd.probes.http.params import HttpTarget, RequestTemplate, add_endpoint, shared_template, template_hash
from waitd.probes.presets.connections import vendor_name
from waitd.probes.presets.dialects import DIALECTS, NO_DIALECT
from waitd.probes.presets.evaluation import (
    AnswerRule,
    JobConditions,
    JobSources,
    StateItems,
    shared_job_conditions,
)
from waitd.probes.presets.params import check_conn_id, params_model, submit_model
from waitd.probes.presets.schema import PresetFile, StateTable
from waitd.probes.presets.templates import append_query, fill_path, fill_template, fill_texts
from waitd.probes.submit.plan import SubmitParams


class PresetTarget(HttpTarget, eq=False, gc=False):
    """What one wait asks. Unlike any request of kind `http`, a look at a job may be shared whatever its method.

    Attributes:
        account: the connection that its requests count for; `aws_default` also stands for the environment's own account.
    """

    account: str | None
    may_be_absent: bool

    @property
    def conn_id(self) -> str | None:
        """The connection that must exist; its requests use what the vendor's API makes of it (`template.conn_id`)."""
        return None if self.may_be_absent else self.account


class Preset:
    """A file, compiled.

    Attributes:
        file: its tables.
        origin: where it was read, for people.
    """

    def __init__(self, file: PresetFile, origin: str) -> None:
        self.file = file
        self.origin = origin
        self._sources = _sources(file)
        texts = _texts(self._sources)
        self._named = [name for name in file.params if any(f"params.{name}" in text for text in texts)]
        self._content = {} if file.request.json_body is None else {"Content-Type": "application/json"}

    # Models take milliseconds each, and most daemons wait for two or three kinds.

    @cached_property
    def params_model(self) -> type[Strict]:
        """What `params` of a wait may hold."""
        return params_model(self.file.kind, self.file.connection, self.file.params)

    @cached_property
    def submit_model(self) -> type[SubmitParams] | None:
        """What its `submit` may hold; None where no job can be submitted."""
        table = self.file.submit
        if table is None:
            return None
        return submit_model(self.file.kind, table.params, list(table.on_conflict))

    @property
    def refusal(self) -> str | None:
        """CEL: what is said of an answer that refuses."""
        return self._sources.refusal

    def checked(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters with their defaults.

        Raises:
            InvalidInput: with pointers relative to `params`.
        """
        given = parsed(self.params_model, dict(params)).__dict__
        check_conn_id(self.file.connection, given[self.file.connection.param])
        return given

    def target(self, params: Mapping[str, Any], *, namespace: str) -> PresetTarget:
        """The target that these parameters name; raises as `checked` does."""
        given = self.checked(params)
        conn_id = given[self.file.connection.param]
        request = self.file.request
        endpoint = append_query(self.path(request.path, given), fill_texts(request.query, given))
        body = fill_template(request.json_body, given)
        template = shared_template(
            *(namespace, request.method, self.vendor_name(given), ""),
            tuple({**self._content, **fill_texts(request.headers, given)}.items()),
            None if body is None else orjson.dumps(body),
            given["request_timeout"],
        )
        endpoint, seed = add_endpoint(_shape(template), endpoint)
        absent = self.may_be_absent(params)
        named = parse_origin(endpoint) if template.conn_id is None else None
        origin = None if named is None else str(named)
        key = "" if request.follow else seed  # where it looks next is each wait's own
        return PresetTarget(template, self.rules(given), endpoint, origin, seed, key, conn_id, absent)

    def path(self, template: str, given: Mapping[str, Any]) -> str:
        """A path of the file, filled.

        Raises:
            InvalidInput: a parameter cannot stand in it.
        """
        for name, value in given.items():
            try:
                if f"{{{name}}}" in template and value is not None:
                    check_endpoint("/" + encode_segment(str(value)))
                elif f"{{+{name}}}" in template:
                    self._check_endpoint(value, given)
            except ValueError as error:
                raise InvalidInput.at(f"/{name}", str(error)) from None
        return fill_path(template, given)

    def _check_endpoint(self, endpoint: str, given: Mapping[str, Any]) -> None:
        """Raises ValueError where this leads nowhere."""
        if check_endpoint(endpoint) is None and given[self.file.connection.param] is None:
            raise ValueError(
                f"without {self.file.connection.param} this is an absolute http:// or https:// URL"
            )

    def rules(self, given: Mapping[str, Any]) -> JobConditions:
        """How an answer about these parameters is judged."""
        if not self._named:
            return shared_job_conditions(self._sources)
        named = orjson.dumps({name: given[name] for name in self._named})
        return shared_job_conditions(self._sources._replace(params=named))

    def vendor_name(self, given: Mapping[str, Any]) -> str | None:
        """Under which name its requests ask for the connection."""
        conn_id = given[self.file.connection.param]
        return None if conn_id is None else vendor_name(conn_id, self.file.kind, given.get("region_name"))

    def may_be_absent(self, params: Mapping[str, Any]) -> bool:
        """Whether the environment's credentials stand in where there is no connection: for AWS, unless one is named."""
        connection = self.file.connection
        return connection.aws_service is not None and connection.param not in params

    def example(self) -> dict[str, Any]:
        """Parameters as the documentation shows them."""
        return {name: table.example for name, table in self.file.params.items() if table.example is not None}


@lru_cache(maxsize=4096)
def _shape(template: RequestTemplate) -> Any:
    """The hash of a template; few are shared by very many waits."""
    return template_hash(template)


def _sources(file: PresetFile) -> JobSources:
    outcome, state = file.outcome, file.state
    dialect = DIALECTS.get(file.dialect or "", NO_DIALECT)
    own = tuple(AnswerRule(answer.when, JobAnswerKind(answer.means)) for answer in file.answers)
    return JobSources(
        state=_where(state),
        success=frozenset(state.success),
        failure=frozenset(state.failure),
        running=frozenset(state.running),
        not_found=frozenset(state.not_found),
        error=outcome.error,
        message=outcome.message,
        refusal=outcome.refusal or dialect.refusal,
        result=outcome.result,
        answers=(*own, *dialect.answers),
    )


def _where(state: StateTable) -> str | StateItems:
    if state.items is None:
        return state.value or ""
    items = state.items
    return StateItems(items.path, tuple(items.where.items()), items.value, items.otherwise)


def _texts(sources: JobSources) -> Sequence[str]:
    state = sources.state if isinstance(sources.state, str) else ""
    texts = (state, sources.error, sources.message, sources.refusal, sources.result)
    return [text for text in (*texts, *(answer.when for answer in sources.answers)) if text]
