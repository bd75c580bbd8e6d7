"""The short way: bodies as they usually come, for less than half the price of a close look.

A decoder in C takes a body apart and checks its types; the rest is checked piece by piece, and what many bodies share (figures, sinks,
parameters but for the job's name) is checked once and remembered as it is written. Nothing is taken here that a close look
(`submissions`) would refuse, but for numbers out of range in a field that a later one of the same name makes void. Nothing is said of
what is wrong.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import orjson
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from waitd.api.server.bodies import decoded_part
from waitd.api.services import Services
from waitd.api.submission.draft import ValidatedWait
from waitd.api.submission.idempotency import digest
from waitd.api.submission.options import OptionsChecker
from waitd.api.submission.sinks import SinkTargets
from waitd.api.submission.texts import is_plain
from waitd.core.errors import InvalidInput
from waitd.models import MAX_KEY_LENGTH, MAX_LABEL_NAME, MAX_LABEL_VALUE, MAX_LABELS
from waitd.ports import NewWait, Target

_Key = Annotated[str, Meta(min_length=1, max_length=MAX_KEY_LENGTH)]
_Labels = Annotated[
    dict[
        Annotated[str, Meta(min_length=1, max_length=MAX_LABEL_NAME)],
        Annotated[str, Meta(max_length=MAX_LABEL_VALUE)],
    ],
    Meta(max_length=MAX_LABELS),
]
_NO_PARAMS, _NO_SINKS = Raw(b"{}"), Raw(b"[]")


class Body(Struct, forbid_unknown_fields=True, gc=False):
    """The fields of a `WaitRequest`; what stays text is checked by others. A wait that submits its job is looked at closely."""

    kind: str
    params: Raw = _NO_PARAMS
    poke_interval: float | UnsetType = UNSET
    timeout: float | None = None
    exponential_backoff: bool = False
    max_wait: float | None = None
    soft_fail: bool = False
    silent_fail: bool = False
    sinks: Raw = _NO_SINKS
    labels: _Labels = {}
    supersede_key: _Key | None = None
    submit: None = None
    wake_on: _Key | None = None


class Line(Body, forbid_unknown_fields=True, gc=False):
    """A line of a batch."""

    idempotency_key: _Key | None = None


_body = msgspec.json.Decoder(Body).decode
_line = msgspec.json.Decoder(Line).decode
#: What shows that a body is none of these.
_UNUSUAL = (InvalidInput, msgspec.MsgspecError, ValueError, RecursionError)


class UsualBodies:
    """Makes drafts of them. Holds no state but caches."""

    def __init__(
        self,
        services: Services,
        envelopes: OptionsChecker,
        sinks: SinkTargets,
    ) -> None:
        self._probes = services.probes
        self._connections = services.connections
        self._namespaces = services.namespaces
        self._envelopes = envelopes
        self._sinks = sinks

    def draft(self, text: bytes, namespace: str, key: str | None) -> ValidatedWait | None:
        """The wait that the body of `POST /v1/waits` describes, under the idempotency key `key`; None: it takes a close look."""
        try:
            return self._draft(_body(text), text, namespace, key, plain=is_plain(text))
        except _UNUSUAL:
            return None

    def line(self, text: bytes, namespace: str, *, plain: bool) -> ValidatedWait | None:
        """The same of a line of a batch. `plain`: whether it is; see `is_plain`."""
        try:
            body = _line(text)
            return self._draft(body, text, namespace, body.idempotency_key, plain=plain)
        except _UNUSUAL:
            return None

    def _draft(
        self, body: Body, text: bytes, namespace: str, key: str | None, *, plain: bool
    ) -> ValidatedWait | None:
        kind = body.kind
        if kind not in self._probes or self._namespaces.rules(namespace) is not None:
            return None
        if not plain:
            text.decode()  # what is passed over twice, as the first of two fields of one name, is to be text, too
            if not _are_printable(body.labels, body.supersede_key, body.wake_on):
                return None
        if key is not None and not key.isprintable():  # in a header, or not plain
            return None
        figures = (body.poke_interval, body.timeout, body.exponential_backoff, body.max_wait)
        envelope = self._envelopes.checked((kind, *figures, body.soft_fail, body.silent_fail))
        asked = self._read(kind, bytes(body.params), namespace)
        if asked is None:
            return None
        target, params = asked
        sinks = self._sinks.read(bytes(body.sinks))
        conn_ids = sinks.conn_ids if target.conn_id is None else (target.conn_id, *sinks.conn_ids)
        for conn_id in conn_ids:
            if self._connections.cached_any(conn_id) is None:
                return None
        spec = envelope.around(
            params, sinks.given, body.labels, supersede_key=body.supersede_key, wake_on=body.wake_on
        )
        body_digest = None if key is None else _digest(text)
        return ValidatedWait(NewWait.of(namespace, spec, key, body_digest, target))

    def _read(self, kind: str, text: bytes, namespace: str) -> tuple[Target, Mapping[str, Any]] | None:
        """The target that parameters in JSON name, and they themselves; None: they are to be looked at closely. Raises what `_UNUSUAL` names."""
        probe = self._probes[kind]
        parsed = probe.parse_json(text, namespace=namespace)
        if parsed is not None:
            return parsed
        params = decoded_part(text)
        if not isinstance(params, dict) or not probe.is_prepared(params):
            return None
        return probe.parse(params, namespace=namespace), params


def _are_printable(labels: Mapping[str, str], *keys: str | None) -> bool:
    return "".join((*labels, *labels.values(), *filter(None, keys))).isprintable()


def _digest(text: bytes) -> bytes:
    raw = orjson.loads(text)
    raw.pop("idempotency_key", None)
    return digest(raw)
