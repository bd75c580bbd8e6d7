"""The texts that people read and search for (names of labels, keys): what has no place in them."""

import re
from collections.abc import Iterator
from typing import Any

from waitd.core.errors import Problem
from waitd.models import (
    MAX_KEY_LENGTH,
    MAX_LABEL_NAME,
    MAX_LABEL_VALUE,
    MAX_LABELS,
    WaitRequest,
    pointer,
)

#: What has no place in a name that people read and search for; surrogates are what undecodable header bytes become.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
NO_CONTROL = "control characters are not allowed"


def is_plain_key(key: Any) -> bool:
    """Whether a key is certainly one that is taken; those left out are rare."""
    return key is None or (isinstance(key, str) and 0 < len(key) <= MAX_KEY_LENGTH and key.isprintable())


def are_plain_labels(labels: Any) -> bool:
    """The same for labels."""
    if not isinstance(labels, dict) or len(labels) > MAX_LABELS:
        return False
    for name, value in labels.items():
        if not isinstance(value, str) or len(value) > MAX_LABEL_VALUE or not 0 < len(name) <= MAX_LABEL_NAME:
            return False
    return "".join((*labels, *labels.values())).isprintable()


def control_problems(request: WaitRequest) -> Iterator[Problem]:
    """What is wrong with the texts of a body that is right otherwise."""
    # One look at all of it together; where it fails, which one it was.
    keys = (request.supersede_key or "", request.wake_on or "")
    if not "".join((*request.labels, *request.labels.values(), *keys)).isprintable():
        for name, value in request.labels.items():
            if CONTROL.search(name) or CONTROL.search(value):
                yield Problem(pointer(["labels", name]), NO_CONTROL)
        if request.supersede_key and CONTROL.search(request.supersede_key):
            yield Problem("/supersede_key", NO_CONTROL)
        if request.wake_on and CONTROL.search(request.wake_on):
            yield Problem("/wake_on", NO_CONTROL)
