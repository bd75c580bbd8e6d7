"""Idempotency keys: which are taken, and what is compared where one comes again."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import orjson

from waitd.api.submission.texts import CONTROL, NO_CONTROL
from waitd.core.errors import InvalidInput
from waitd.models import MAX_KEY_LENGTH
from waitd.ports import IdempotentSubmit


def check_key(key: str | None) -> None:
    """Refuses what cannot be the value of an Idempotency-Key header.

    Raises:
        InvalidInput: it is too long, empty, or no text.
    """
    if key is not None and not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise InvalidInput.at("", f"the Idempotency-Key header has 1 to {MAX_KEY_LENGTH} characters")
    if key is not None and CONTROL.search(key):
        raise InvalidInput.at("", f"the Idempotency-Key header: {NO_CONTROL}")


def keyed(raw: Any, namespace: str, key: Any) -> IdempotentSubmit | None:
    """What a refused body, whatever is wrong with it, may have been taken under before; None where it cannot have been."""
    if not isinstance(raw, dict) or not isinstance(key, str):
        return None
    if not 1 <= len(key) <= MAX_KEY_LENGTH or CONTROL.search(key):
        return None
    return IdempotentSubmit(namespace, key, digest(raw))


def digest(raw: Mapping[str, Any]) -> bytes:
    """SHA-256 of the canonical JSON as it was sent: the same whatever the order of fields and the white space."""
    return sha256(orjson.dumps(raw, option=orjson.OPT_SORT_KEYS)).digest()
