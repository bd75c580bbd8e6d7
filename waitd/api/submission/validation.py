"""Turns a request body into a validated wait, or reports everything that is wrong with it.

Every body takes one path: the struct is decoded, then its options, texts, parameters and sinks are
checked, each with a cache of what many bodies share. All problems are reported at once. A body that
the struct refuses is decoded once more to explain why.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from waitd.api.dependencies import ApiDependencies
from waitd.api.server.bodies import MalformedBody, decoded, is_plain, refuse_repeated
from waitd.api.submission.findings import Findings, NamedConnection
from waitd.api.submission.idempotency import digest, idempotent_submit
from waitd.api.submission.namespace_policy import NamespacePolicy
from waitd.api.submission.options import OptionsChecker
from waitd.api.submission.params import ParamsParser
from waitd.api.submission.sinks import SinkTargets
from waitd.core.errors import InvalidInput, Problem
from waitd.core.waits.wait import WaitSpec
from waitd.models import (
    CONTROL_CHARACTERS,
    NO_CONTROL_CHARACTERS,
    BatchLine,
    WaitRequest,
    explain_refusal,
    pointer,
)
from waitd.ports import IdempotentSubmit, NewWait


class ValidatedWait(Struct, gc=False):
    """A wait that is ready to be stored, once its uncached connections are known to exist."""

    new: NewWait
    uncached: tuple[NamedConnection, ...] = ()

    @property
    def replay(self) -> IdempotentSubmit | None:
        """What the wait may have been accepted as earlier; None without an idempotency key."""
        new = self.new
        if new.idempotency_key is None or new.body_digest is None:
            return None
        return IdempotentSubmit(new.namespace, new.idempotency_key, new.body_digest)

    def refuse_unknown(self, unknown: frozenset[str]) -> None:
        """Refuses the wait if it names an unknown connection.

        Raises:
            RefusedBody: one problem per field that names one.
        """
        problems = [
            Problem(
                named.pointer,
                f"no resolver knows the connection {named.conn_id!r}; is AIRFLOW_CONN_… set for the daemon?",
            )
            for named in self.uncached
            if named.conn_id in unknown
        ]
        if problems:
            raise RefusedBody(problems, self.replay)


class RefusedBody(InvalidInput):
    """A body that is not accepted now. `replay` is what it may have been accepted as earlier."""

    def __init__(self, problems: Iterable[Problem], replay: IdempotentSubmit | None) -> None:
        super().__init__(problems)
        self.replay = replay


class BodyForm(NamedTuple):
    """The form of a body: the struct of its fields, and the decoder of the struct."""

    struct: type[WaitRequest]
    decode: Callable[[bytes], WaitRequest]


WAIT_BODY = BodyForm(WaitRequest, msgspec.json.Decoder(WaitRequest).decode)
BATCH_LINE = BodyForm(BatchLine, msgspec.json.Decoder(BatchLine).decode)


#: Encodes a decoded body again, without the fields that have their defaults.
_ENCODE = msgspec.json.Encoder().encode
#: Decodes no more than the names of a body's fields.
_NAMES = msgspec.json.Decoder(dict[str, Raw]).decode
#: What the decoders raise: for the form of a body, its encoding and its nesting.
_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Submissions:
    """Validates request bodies. Holds no state but caches.

    Attributes:
        sinks: parses the sinks of bodies, and of stored waits.
    """

    def __init__(self, dependencies: ApiDependencies) -> None:
        self._connections = dependencies.connections
        self._namespaces = dependencies.namespaces
        self._options = OptionsChecker(dependencies.probes, dependencies.limits)
        self._params = ParamsParser(dependencies.probes)
        self.sinks = SinkTargets(dependencies.sinks)

    async def validate(
        self,
        body: bytes,
        namespace: str,
        key: str | None = None,
        *,
        form: BodyForm = WAIT_BODY,
        plain: bool | None = None,
    ) -> ValidatedWait:
        """Validates the body of a wait.

        Args:
            body: JSON.
            namespace: of the caller.
            key: the idempotency key of the request; a batch line has its own.
            form: the form of the body.
            plain: the result of `is_plain`, if it is known.

        Raises:
            RefusedBody: everything that is wrong with the body.
        """
        if plain is None:
            plain = is_plain(body)
        try:
            try:
                if not plain:
                    body.decode()  # the struct's decoder does not look into the fields that stay raw
                request = form.decode(body)
            except _UNDECODABLE as error:
                raise MalformedBody.at("", f"not valid: {error}") from None
            encoded = _ENCODE(request)
            # With as many colons, and no character written as its code, no field is repeated.
            if body.count(b":") != encoded.count(b":") or (not plain and b"\\" in body):
                _refuse_repeated(body, encoded)
            if isinstance(request, BatchLine):
                key = request.idempotency_key
            poke_interval, timeout, backoff, max_wait, soft_fail, silent_fail, problems = self._options.check((
                request.kind, request.poke_interval, request.timeout, request.exponential_backoff,
                request.max_wait, request.soft_fail, request.silent_fail,
            ))  # fmt: skip
            rules = self._namespaces.rules(namespace)
            policy = None if rules is None else NamespacePolicy(namespace, rules)
            findings = Findings(self._connections, policy, [*problems])
            if not plain:
                findings.problems += _text_problems(request, key)
            params, submit, target = self._params.parse_cached(
                request, namespace, findings
            ) or await self._params.parse(request, namespace, findings)
            sinks = self.sinks.parse(bytes(request.sinks))
            if policy is not None or not sinks.independent:
                findings.check_sinks(sinks)
            if findings.problems:
                raise InvalidInput(findings.problems)  # noqa: TRY301 - as the errors of the steps are
            spec = WaitSpec(
                # By position: keywords cost half as much again.
                request.kind, params, poke_interval, timeout, backoff, max_wait, soft_fail, silent_fail,
                sinks.params, request.labels, request.supersede_key, submit, request.wake_on,
            )  # fmt: skip
            body_digest = None if key is None else _digest(body)
            new = NewWait(namespace, spec, key, body_digest, target)
            return ValidatedWait(new, tuple(findings.uncached))
        except InvalidInput as error:
            raise _refused(error, form, body, namespace, key) from None


def _refuse_repeated(body: bytes, encoded: bytes) -> None:
    """Refuses a body with repeated fields. `encoded`: the body without fields that are default."""
    refuse_repeated(body, encoded, missing=len(_NAMES(body)) - len(_NAMES(encoded)))


def _text_problems(request: WaitRequest, key: str | None) -> Iterator[Problem]:
    """Yields the labels and keys that have control characters."""
    texts = (request.supersede_key or "", request.wake_on or "", key or "")
    if "".join((*request.labels, *request.labels.values(), *texts)).isprintable():
        return
    for name, value in request.labels.items():
        if CONTROL_CHARACTERS.search(name) or CONTROL_CHARACTERS.search(value):
            yield Problem(pointer(["labels", name]), NO_CONTROL_CHARACTERS)
    for field, text in zip(("/supersede_key", "/wake_on", "/idempotency_key"), texts, strict=True):
        if CONTROL_CHARACTERS.search(text):
            yield Problem(field, NO_CONTROL_CHARACTERS)


def _digest(body: bytes) -> bytes:
    fields = decoded(body)
    fields.pop("idempotency_key", None)
    return digest(fields)


def _refused(
    error: InvalidInput, form: BodyForm, body: bytes, namespace: str, key: str | None
) -> RefusedBody:
    """Returns the refusal of a body: `error`, explained where the body does not have the form."""
    malformed = isinstance(error, MalformedBody)
    if not malformed and key is None:
        return RefusedBody(error.problems, None)
    try:
        fields = decoded(body)
    except MalformedBody as not_json:
        return RefusedBody(not_json.problems, None)
    if not isinstance(fields, dict):
        return RefusedBody([Problem("", "a JSON object is needed")], None)
    problems = (malformed and explain_refusal(form.struct, fields)) or error.problems
    if form is BATCH_LINE:
        key = fields.pop("idempotency_key", None)
    return RefusedBody(problems, idempotent_submit(fields, namespace, key))
