"""SASL/PLAIN before librdkafka's mock cluster, which knows no logins: SaslHandshake (v0-1) and SaslAuthenticate (v0) as Kafka's protocol
guide describes them. What comes after a right login is the cluster's own.
"""

import struct
from asyncio import StreamReader, StreamWriter

from broker_proxy import Ends

_API_VERSIONS, _HANDSHAKE, _AUTHENTICATE = 18, 17, 36
_OK, _UNSUPPORTED_MECHANISM, _FAILED = 0, 33, 58


class SaslDoor:
    """Lets in who brings the right login; keeps which were brought."""

    def __init__(self, login: str, password: str) -> None:
        self.right = (login, password)
        self.brought: list[tuple[str, str]] = []

    async def __call__(self, ends: Ends) -> bool:
        while True:
            request = await _read(ends.requests)
            key, _, number, length = struct.unpack(">hhih", request[:10])
            body = request[10 + max(length, 0) :]
            answer = struct.pack(">i", number)
            if key == _API_VERSIONS:
                _write(ends.broker, request)
                _write(ends.client, _with_logins(await _read(ends.answers)))
            elif key == _HANDSHAKE:
                error = _OK if body[2:] == b"PLAIN" else _UNSUPPORTED_MECHANISM
                _write(ends.client, answer + struct.pack(">hih", error, 1, 5) + b"PLAIN")
            elif key == _AUTHENTICATE:
                _, login, password = body[4:].split(b"\0")
                self.brought.append((login.decode(), password.decode()))
                right = self.brought[-1] == self.right
                # No message, no bytes.
                _write(ends.client, answer + struct.pack(">hhi", _OK if right else _FAILED, -1, 0))
                await ends.client.drain()
                return right
            else:
                return False  # a request before the login


def _with_logins(answer: bytes) -> bytes:
    """The versions that the cluster knows, and those of the two requests that it does not."""
    number, error, count = struct.unpack(">ihi", answer[:10])
    own = struct.pack(">hhhhhh", _HANDSHAKE, 0, 1, _AUTHENTICATE, 0, 0)
    return struct.pack(">ihi", number, error, count + 2) + own + answer[10:]


async def _read(reader: StreamReader) -> bytes:
    (length,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(length)


def _write(writer: StreamWriter, frame: bytes) -> None:
    writer.write(struct.pack(">i", len(frame)) + frame)
