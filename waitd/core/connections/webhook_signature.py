"""Webhook signatures per Standard Webhooks: HMAC-SHA256 over message id, timestamp and body."""

from base64 import b64decode, b64encode
from collections.abc import Iterable
from hashlib import sha256
from hmac import digest

_PREFIX = "whsec_"


def parse_webhook_secrets(secrets: str) -> tuple[bytes, ...]:
    """The keys in `secrets`: one secret or, during a rotation, several separated by spaces.

    A secret is `whsec_<base64>`, or any other text, whose UTF-8 bytes are the key.

    Raises:
        ValueError: there is no secret, or the text after `whsec_` is not base64. The message does
            not quote it.
    """
    keys = tuple(_key(secret) for secret in secrets.split())
    if not keys:
        raise ValueError("the webhook secret is empty")
    return keys


def _key(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        return secret.encode()
    text = secret.removeprefix(_PREFIX)
    try:
        key = b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ValueError("the text after whsec_ in the webhook secret is not base64")
    return key


def sign_webhook(keys: Iterable[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of the header `webhook-signature`: one `v1,<base64>` for each key.

    `timestamp` is in Unix seconds, as in the header `webhook-timestamp`.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join("v1," + b64encode(digest(key, signed, sha256)).decode() for key in keys)
