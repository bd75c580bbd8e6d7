"""Signals over HTTP: a caller or S3 announces that what waits are waiting for has happened."""

from urllib.parse import unquote

from aiohttp import web

from waitd.api.authentication import PRINCIPAL
from waitd.api.dependencies import ApiDependencies
from waitd.api.handlers.audit import SUBJECT, SUBJECTS, caller_of
from waitd.api.problems import refusal
from waitd.api.server.bodies import decoded, json_response, read_body, read_json
from waitd.core.aws.s3_events import created_objects
from waitd.core.errors import InvalidInput
from waitd.models import MAX_KEY_LENGTH, MAX_SIGNAL

#: The path of a signal, before its key.
SIGNAL_PATH = "/v1/signals/"


class SignalHandlers:
    """The handlers of `/v1/signals…`."""

    def __init__(self, dependencies: ApiDependencies) -> None:
        self._store = dependencies.store
        self._receiver = dependencies.signal_receiver
        self._disk = dependencies.disk

    async def signal(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/signals/{key}`: 200 once it is on disk, with how many waits are poked now."""
        key, namespace = _signal_key(request), request[PRINCIPAL].namespace
        body = await read_body(request)
        if len(body) > MAX_SIGNAL:
            raise refusal("too-large", f"at most {MAX_SIGNAL} bytes; nothing was stored")
        payload = decoded(body) if body else None
        request[SUBJECT] = key
        self._disk.take(len(body))
        await self._store.save_signal(namespace, key, payload, caller_of(request))
        waits = 0 if self._receiver is None else self._receiver.listening(namespace, key)
        return json_response({"key": key, "namespace": namespace, "waits": waits})

    async def s3(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/signals:s3`: 200 with how many keys it names and how many waits are poked."""
        event = await read_json(request)
        if not isinstance(event, dict):
            raise InvalidInput.at("", "a JSON object is needed")
        namespace = request[PRINCIPAL].namespace
        keys = waits = 0
        for created in created_objects(event):
            keys += 1
            if self._receiver is not None:
                waits += self._receiver.on_s3_object("s3_event", created.bucket, created.key, namespace)
        request[SUBJECTS] = keys
        return json_response({"keys": keys, "waits": waits})


def _signal_key(request: web.Request) -> str:
    """Returns the key in the path; it may have slashes, encoded or not. Raises InvalidInput."""
    key = unquote(request.rel_url.raw_path.removeprefix(SIGNAL_PATH), errors="surrogateescape")
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not key.isprintable():
        raise InvalidInput.at("", f"a signal's key has 1 to {MAX_KEY_LENGTH} printable characters")
    return key
