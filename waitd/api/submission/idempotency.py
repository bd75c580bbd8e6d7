"""Idempotency keys: which keys are valid, and what a repeated key is compared by."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import orjson

from waitd.core.errors import InvalidInput
from waitd.models import CONTROL_CHARACTERS, MAX_KEY_LENGTH, NO_CONTROL_CHARACTERS
from waitd.ports import IdempotentSubmit


def check_key(key: str | None) -> None:
    """Checks the value of an Idempotency-Key header.

    Raises:
        InvalidInput: it is empty, too long, or has control characters.
    """
    if key is not None and not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise InvalidInput.at("", f"the Idempotency-Key header has 1 to {MAX_KEY_LENGTH} characters")
    if key is not None and CONTROL_CHARACTERS.search(key):
        raise InvalidInput.at("", f"the Idempotency-Key header: {NO_CONTROL_CHARACTERS}")


def idempotent_submit(body: Mapping[str, Any], namespace: str, key: Any) -> IdempotentSubmit | None:
    """Returns what a refused body may have been accepted as earlier; None if that cannot be."""
    if isinstance(key, str) and 1 <= len(key) <= MAX_KEY_LENGTH and not CONTROL_CHARACTERS.search(key):
        return IdempotentSubmit(namespace, key, digest(body))
    return None


def digest(body: Mapping[str, Any]) -> bytes:
    """Returns the SHA-256 of a body's canonical JSON, whatever its order of fields and spaces."""
    return sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).digest()
