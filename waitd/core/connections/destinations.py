"""Validates parameters that become a destination's host: SQS queue URLs and AWS regions.

They are parsed and compared, never joined as strings.
"""

import re

from waitd.core.connections.aws import is_region
from waitd.core.connections.connection import Origin, parse_origin

#: AWS's own SQS endpoints, the legacy ones included; the group is the region.
_SQS_HOST = re.compile(
    r"(?:sqs(?:-fips)?\.)?(?P<region>[a-z]{2,}(?:-[a-z]+)+-[0-9]{1,2})\.(?:queue\.amazonaws\.com|amazonaws\.com(?:\.cn)?|api\.aws)"
)
_QUEUE_PATH = re.compile(r"(?:/[A-Za-z0-9_-]{1,80})+(?:\.fifo)?")


def check_queue_url(queue_url: str) -> Origin:
    """The origin of an SQS queue; all that can be checked while its connection is unknown.

    Raises:
        ValueError: it is not the URL of a queue. The message does not quote it.
    """
    origin = parse_origin(queue_url)
    path = re.sub(r"^[a-zA-Z]+://[^/?#]*", "", queue_url)
    if not _QUEUE_PATH.fullmatch(path):
        raise ValueError("a queue URL ends with the account and the queue's name, and has no query")
    return origin


def queue_region(queue_url: str) -> str | None:
    """The region of a queue at one of AWS's own endpoints; None for any other endpoint.

    Raises:
        ValueError: as `check_queue_url`.
    """
    matched = _SQS_HOST.fullmatch(check_queue_url(queue_url).host)
    return matched["region"] if matched else None


def queue_origin(queue_url: str, *, endpoint: str | None, region: str | None) -> Origin:
    """The origin of an SQS queue, which must belong to its connection.

    Args:
        queue_url: as the submitter wrote it.
        endpoint: the connection's SQS endpoint; None for AWS's own.
        region: the region of the wait or connection; None if neither names one.

    Raises:
        ValueError: the queue is on another host or in another region, or it is not the URL of a
            queue. The message does not quote it.
    """
    origin = check_queue_url(queue_url)
    if endpoint is not None:
        if origin != parse_origin(endpoint):
            raise ValueError("the queue is not at the connection's endpoint")
        return origin
    own_region = queue_region(queue_url)
    if own_region is None or (origin.scheme, origin.port) != ("https", 443):
        raise ValueError("the queue is not at an AWS endpoint, and the connection names no other endpoint")
    if region is not None and own_region != region:
        raise ValueError("the queue is not in the region that the wait or its connection names")
    return origin


def check_region(text: str) -> str:
    """Returns `text` if it can be the name of a region, which becomes part of a host name.

    Raises:
        ValueError: it cannot.
    """
    if not is_region(text):
        raise ValueError("a region has lower-case letters, digits and hyphens, e.g. eu-west-1")
    return text
