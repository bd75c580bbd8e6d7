"""SASL/PLAIN in front of librdkafka's mock cluster, which has no authentication.

It implements SaslHandshake (v0-1) and SaslAuthenticate (v0) as Kafka's protocol guide describes
them. After a correct login the proxy forwards to the cluster.
"""

import struct
from asyncio import StreamReader, StreamWriter

from broker_proxy import Streams

_API_VERSIONS, _HANDSHAKE, _AUTHENTICATE = 18, 17, 36
_OK, _UNSUPPORTED_MECHANISM, _FAILED = 0, 33, 58


class SaslHandshake:
    """A proxy handshake that requires a login and records the attempts."""

    def __init__(self, login: str, password: str) -> None:
        self.expected = (login, password)
        self.attempts: list[tuple[str, str]] = []

    async def __call__(self, streams: Streams) -> bool:
        while True:
            request = await _read(streams.requests)
            key, _, number, length = struct.unpack(">hhih", request[:10])
            body = request[10 + max(length, 0) :]
            response = struct.pack(">i", number)
            if key == _API_VERSIONS:
                _write(streams.broker, request)
                _write(streams.client, _with_logins(await _read(streams.answers)))
            elif key == _HANDSHAKE:
                error = _OK if body[2:] == b"PLAIN" else _UNSUPPORTED_MECHANISM
                _write(streams.client, response + struct.pack(">hih", error, 1, 5) + b"PLAIN")
            elif key == _AUTHENTICATE:
                _, login, password = body[4:].split(b"\0")
                self.attempts.append((login.decode(), password.decode()))
                accepted = self.attempts[-1] == self.expected
                # an empty message and no bytes
                _write(streams.client, response + struct.pack(">hhi", _OK if accepted else _FAILED, -1, 0))
                await streams.client.drain()
                return accepted
            else:
                return False  # a request before the login


def _with_logins(answer: bytes) -> bytes:
    """Adds the two SASL requests to the cluster's supported versions."""
    number, error, count = struct.unpack(">ihi", answer[:10])
    own = struct.pack(">hhhhhh", _HANDSHAKE, 0, 1, _AUTHENTICATE, 0, 0)
    return struct.pack(">ihi", number, error, count + 2) + own + answer[10:]


async def _read(reader: StreamReader) -> bytes:
    (length,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(length)


def _write(writer: StreamWriter, frame: bytes) -> None:
    writer.write(struct.pack(">i", len(frame)) + frame)
