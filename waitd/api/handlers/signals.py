"""Signals over HTTP: somebody says that what waits wait for has come."""

from typing import Any
from urllib.parse import unquote

from aiohttp import web

from waitd.api.callers import namespace_of
from waitd.api.handlers.audit import SUBJECT, SUBJECTS, caller_of
from waitd.api.problems import refusal
from waitd.api.requests import json_response
from waitd.api.routing import Answer, Body, Route
from waitd.api.server.bodies import decoded, read_body
from waitd.api.services import Services
from waitd.core.auth.principal import Role
from waitd.core.aws.s3_events import created_objects
from waitd.core.errors import InvalidInput
from waitd.models import MAX_KEY_LENGTH, MAX_SIGNAL, S3Event, S3EventView, SignalPayload, SignalView

_PREFIX = "/v1/signals/"


class Signals:
    """The handlers of `/v1/signals…`."""

    def __init__(self, services: Services) -> None:
        self._store = services.store
        self._signal_receiver = services.signal_receiver

    async def signal(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/signals/{key}`: 200 once it is on disk, with how many waits are poked for it now."""
        key, namespace = _key(request), namespace_of(request)
        body = await read_body(request)
        if len(body) > MAX_SIGNAL:
            raise refusal("too-large", f"at most {MAX_SIGNAL} bytes; nothing was stored")
        payload = decoded(body) if body else None
        request[SUBJECT] = key
        await self._store.save_signal(namespace, key, payload, caller_of(request))
        return json_response({"key": key, "namespace": namespace, "waits": self._listening(namespace, key)})

    async def s3(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/signals:s3`: 200 with how many keys the event names, and how many waits are poked for them."""
        event = decoded(await read_body(request))
        if not isinstance(event, dict):
            raise InvalidInput.at("", "a JSON object is needed")
        return json_response(self._heard(event, namespace_of(request), request))

    def _listening(self, namespace: str, key: str) -> int:
        return 0 if self._signal_receiver is None else self._signal_receiver.listening(namespace, key)

    def _heard(self, event: dict[str, Any], namespace: str, request: web.Request) -> dict[str, int]:
        keys = waits = 0
        for made in created_objects(event):
            keys += 1
            if self._signal_receiver is not None:
                waits += self._signal_receiver.on_s3_object("s3_event", made.bucket, made.key, namespace)
        request[SUBJECTS] = keys
        return {"keys": keys, "waits": waits}


def _key(request: web.Request) -> str:
    """The key in the path, which may have slashes in it, encoded or not. Raises InvalidInput."""
    key = unquote(request.rel_url.raw_path.removeprefix(_PREFIX), errors="surrogateescape")
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not key.isprintable():
        raise InvalidInput.at("", f"a signal's key has 1 to {MAX_KEY_LENGTH} printable characters")
    return key


def signalling(signals: Signals) -> tuple[Route, ...]:
    """The routes of signals."""
    return (
        Route(
            "POST",
            _PREFIX + "{key:.+}",
            signals.signal,
            Role.SUBMITTER,
            "signal",
            "waits",
            "Say that what waits under this key wait for has come: once this is answered, it is on disk",
            (Answer(200, "It is kept, and the waits that listen to it are poked.", (SignalView,)),),
            ("conflict",),
            body=Body(
                f"The payload, any JSON; at most {MAX_SIGNAL} bytes.",
                (SignalPayload,),
                needed=False,
                example={"approved": True, "by": "ops"},
            ),
            action="signal",
        ),
        Route(
            "POST",
            "/v1/signals:s3",
            signals.s3,
            Role.SUBMITTER,
            "signalS3",
            "waits",
            "Tell of keys that have come in S3: an event notification as S3, MinIO or EventBridge post it",
            (Answer(200, "The waits that look for these keys are poked.", (S3EventView,)),),
            body=Body(
                "The event, as it was posted.",
                (S3Event,),
                example={
                    "Records": [
                        {
                            "eventName": "ObjectCreated:Put",
                            "s3": {"bucket": {"name": "landing"}, "object": {"key": "orders/1.parquet"}},
                        }
                    ]
                },
            ),
            stores=False,
        ),
    )
