"""A body on its way to becoming a wait: decoded, checked field by field, its connections known.

What is wrong is told here, all of it at once, and never at the first poke.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from waitd.api.services import Services
from waitd.api.submission.draft import NamedConnection, ValidatedWait
from waitd.api.submission.fast_path import UsualBodies
from waitd.api.submission.idempotency import digest
from waitd.api.submission.namespace_policy import NamespacePolicy
from waitd.api.submission.options import OptionsChecker
from waitd.api.submission.sinks import SinkTargets
from waitd.api.submission.texts import CONTROL, NO_CONTROL, control_problems
from waitd.core.errors import ConnectionUnavailable, InvalidInput, Problem, UnknownConnection
from waitd.models import (
    BatchLine,
    WaitRequest,
    parsed,
    pointer,
)
from waitd.ports import Connections, NewWait, Probe, SubmitPlan, Target


class Submissions:
    """Turns bodies into drafts. Holds no state but caches."""

    def __init__(self, services: Services, sinks: SinkTargets) -> None:
        self._probes = services.probes
        self._envelopes = OptionsChecker(services.probes, services.limits)
        #: The short way, to be tried first.
        self.usual = UsualBodies(services, self._envelopes, sinks)
        self._connections = services.connections
        self._namespaces = services.namespaces
        self._sinks = sinks

    async def draft(self, raw: Any, namespace: str, idempotency_key: str | None = None) -> ValidatedWait:
        """The wait that the decoded body of `POST /v1/waits` describes.

        Raises:
            InvalidInput: everything that is wrong with it.
        """
        await self._prepare(raw)
        raw = _an_object(raw)
        return self._draft(parsed(WaitRequest, raw), raw, namespace, idempotency_key)

    async def batch_draft(self, raw: Any, namespace: str) -> ValidatedWait:
        """The wait that a decoded line of `POST /v1/waits:batch` describes, its key taken out of it; raises as `draft` does."""
        await self._prepare(raw)
        line = _an_object(raw)
        key = line.pop("idempotency_key", None)
        request = parsed(BatchLine, line if key is None else {**line, "idempotency_key": key})
        if key is not None and CONTROL.search(key):
            raise InvalidInput.at("/idempotency_key", NO_CONTROL)
        return self._draft(request, line, namespace, key)

    def _draft(
        self, request: WaitRequest, raw: Mapping[str, Any], namespace: str, key: str | None
    ) -> ValidatedWait:
        envelope = self._envelopes.filled(request)
        problems = [*self._envelopes.problems(envelope), *control_problems(request)]
        unseen: list[NamedConnection] = []
        rules = self._namespaces.rules(namespace)
        naming = None if rules is None else NamespacePolicy(namespace, rules)
        target = None
        if request.submit is None:
            target = self._target(
                request.kind, raw.get("params", {}), namespace, problems, unseen, naming=naming
            )
        else:
            self._check_submit(raw, namespace, naming, problems, unseen)
        for index, sink in enumerate(raw.get("sinks", ())):
            self._check_sink(f"/sinks/{index}", sink, naming, problems, unseen)
        if problems:
            raise InvalidInput(problems)
        spec = envelope.around(
            raw.get("params", {}),
            tuple(raw.get("sinks", ())),
            request.labels,
            supersede_key=request.supersede_key,
            wake_on=request.wake_on,
            submit=request.submit,
        )
        body_digest = None if key is None else digest(raw)
        return ValidatedWait(NewWait.of(namespace, spec, key, body_digest, target), tuple(unseen))

    async def _prepare(self, raw: Any) -> None:
        """Lets the kind of a decoded body load what checking its parameters takes."""
        kind = raw.get("kind") if isinstance(raw, dict) else None
        probe = self._probes.get(kind) if isinstance(kind, str) else None
        if probe is not None and isinstance(params := raw.get("params"), dict):
            await probe.prepare(params)

    def _target(
        self,
        kind: str,
        params: Mapping[str, Any],
        namespace: str,
        problems: list[Problem],
        unseen: list[NamedConnection],
        *,
        naming: NamespacePolicy | None,
    ) -> Target | None:
        """The parsed parameters; None where they, or their kind, are among the problems."""
        probe = self._probes.get(kind)
        if probe is None:
            problems.append(Problem("/kind", f"unknown kind; known are: {', '.join(sorted(self._probes))}"))
            return None
        if naming is not None and (refused := list(naming.named_connections("/params", params))):
            problems.extend(refused)
            return None
        try:
            target: Target = probe.parse(params, namespace=namespace)
        except InvalidInput as error:
            problems.extend(error.below("/params").problems)
            return None
        if naming is not None:
            problems.extend(naming.of_target("/params", target))
        self._note_connection(target.conn_id, "/params", params, unseen)
        return target

    def _check_submit(
        self,
        raw: Mapping[str, Any],
        namespace: str,
        naming: NamespacePolicy | None,
        problems: list[Problem],
        unseen: list[NamedConnection],
    ) -> None:
        """Checks the parameters of a wait that submits its job, together with what it submits."""
        kind, submit, params = raw["kind"], raw["submit"], raw.get("params", {})
        places = {"/params": params, "/submit": submit} | {
            f"/submit/{name}": part for name, part in submit.items() if isinstance(part, dict)
        }
        if naming is not None:
            refused = [p for place, part in places.items() for p in naming.named_connections(place, part)]
            if refused:
                problems.extend(refused)
                return
        try:
            plan = plan_of(self._probes, kind, submit, params, namespace)
        except InvalidInput as error:
            problems.extend(error.problems)
            return
        for conn_id in plan.conn_ids:
            if naming is not None:
                problems.extend(naming.of_connection("/submit", conn_id))
            place = next((place for place, part in places.items() if conn_id in part.values()), "/params")
            self._note_connection(conn_id, place, places[place], unseen)

    def _check_sink(
        self,
        place: str,
        sink: Mapping[str, Any],
        naming: NamespacePolicy | None,
        problems: list[Problem],
        unseen: list[NamedConnection],
    ) -> None:
        if naming is not None and (refused := list(naming.named_connections(place, sink))):
            problems.extend(refused)
            return
        try:
            target = self._sinks.target(sink)
        except InvalidInput as error:
            problems.extend(error.below(place).problems)
        else:
            if naming is not None:
                problems.extend(naming.of_sink(place, target))
            self._note_connection(target.conn_id, place, sink, unseen)

    def _note_connection(
        self, conn_id: str | None, place: str, params: Mapping[str, Any], unseen: list[NamedConnection]
    ) -> None:
        if conn_id is not None and self._connections.cached_any(conn_id) is None:
            unseen.append(NamedConnection(conn_id, place + _field_of(conn_id, params)))


def plan_of(
    probes: Mapping[str, Probe],
    kind: str,
    submit: Mapping[str, Any],
    params: Mapping[str, Any],
    namespace: str,
) -> SubmitPlan:
    """What a wait submits.

    Raises:
        InvalidInput: with pointers relative to the wait.
    """
    probe = probes.get(kind)
    if probe is None:
        raise InvalidInput.at("/kind", f"unknown kind; known are: {', '.join(sorted(probes))}")
    return probe.parse_submit(submit, params, namespace=namespace)


def refuse_unknown(draft: ValidatedWait, unknown: frozenset[str]) -> None:
    """Refuses a draft that names a connection that nobody knows.

    Raises:
        InvalidInput: pointing at the fields that name one.
    """
    if draft.unseen and (problems := [_unknown(name) for name in draft.unseen if name.conn_id in unknown]):
        raise InvalidInput(problems)


async def unknown_connections(connections: Connections, conn_ids: Iterable[str]) -> frozenset[str]:
    """Those of `conn_ids` that are definitely unknown. A resolver that is down is no reason to refuse anything."""
    unknown = []
    for conn_id in set(conn_ids):
        try:
            await connections.get(conn_id)
        except UnknownConnection:
            unknown.append(conn_id)
        except ConnectionUnavailable:
            continue
    return frozenset(unknown)


def _unknown(name: NamedConnection) -> Problem:
    return Problem(
        name.pointer,
        f"no resolver knows the connection {name.conn_id!r}; is AIRFLOW_CONN_… set for the daemon?",
    )


def _an_object(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise InvalidInput.at("", "a JSON object is needed")
    return raw


def _field_of(conn_id: str, params: Mapping[str, Any]) -> str:
    """Where `params` name the connection: each kind has its own field for it (http_conn_id, aws_conn_id, …)."""
    names = [name for name, value in params.items() if value == conn_id]
    named_so = [name for name in names if name.endswith("conn_id")]
    return pointer([*named_so, *names][:1])
