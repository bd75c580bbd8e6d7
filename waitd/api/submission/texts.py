"""The texts that people read and search for (names of labels, keys): what has no place in them."""

import re
from collections.abc import Iterator

from waitd.core.errors import Problem
from waitd.models import WaitRequest, pointer

#: What has no place in a name that people read and search for; surrogates are what undecodable header bytes become.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
NO_CONTROL = "control characters are not allowed"


def is_plain(text: bytes) -> bool:
    """Whether JSON stands for nothing but printable ASCII: none of it is written in disguise.

    Raw characters below a space are no JSON; whoever decodes it sees to that.
    """
    return text.isascii() and b"\\" not in text and b"\x7f" not in text


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
