"""What forms the path or the host of a destination besides a URL: queues, regions, Airflow's ids. Parsed, never string-joined."""

import re

from waitd.core.connections.aws import is_region
from waitd.core.connections.connection import Origin, encode_segment, parse_origin

#: AWS's own endpoints of SQS, the old ones too: the region is the part that is captured.
_SQS_HOST = re.compile(
    r"(?:sqs(?:-fips)?\.)?(?P<region>[a-z]{2,}(?:-[a-z]+)+-[0-9]{1,2})\.(?:queue\.amazonaws\.com|amazonaws\.com(?:\.cn)?|api\.aws)"
)
_QUEUE_PATH = re.compile(r"(?:/[A-Za-z0-9_-]{1,80})+(?:\.fifo)?")


def check_queue_url(queue_url: str) -> Origin:
    """The origin of an SQS queue, whoever's it is: what can be said before its connection is known.

    Raises:
        ValueError: it is no queue's URL. The message quotes none of it.
    """
    origin = parse_origin(queue_url)
    path = re.sub(r"^[a-zA-Z]+://[^/?#]*", "", queue_url)
    if not _QUEUE_PATH.fullmatch(path):
        raise ValueError("a queue's URL ends with an account and the queue's name, and has no query")
    return origin


def queue_region(queue_url: str) -> str | None:
    """The region of a queue at an endpoint of AWS's own; None: it is elsewhere. Raises ValueError as `check_queue_url`."""
    matched = _SQS_HOST.fullmatch(check_queue_url(queue_url).host)
    return matched["region"] if matched else None


def queue_origin(queue_url: str, *, endpoint: str | None, region: str | None) -> Origin:
    """The origin of an SQS queue, which must be the connection's own.

    Args:
        queue_url: as the submitter wrote it.
        endpoint: the connection's own SQS endpoint; None: AWS's.
        region: the region of wait or connection, or None where neither names one.

    Raises:
        ValueError: it is another host's, another region's, or no queue's URL. The message quotes none of it.
    """
    origin = check_queue_url(queue_url)
    if endpoint is not None:
        if origin != parse_origin(endpoint):
            raise ValueError("the queue is not at the endpoint of the connection")
        return origin
    own_region = queue_region(queue_url)
    if own_region is None or (origin.scheme, origin.port) != ("https", 443):
        raise ValueError("the queue is not at an endpoint of AWS's, and the connection names no other")
    if region is not None and own_region != region:
        raise ValueError("the queue is in another region than the one that is named")
    return origin


def check_region(text: str) -> str:
    """The region, if it can be one: it becomes part of a host's name.

    Raises:
        ValueError: it cannot.
    """
    if not is_region(text):
        raise ValueError("a region has lower-case letters, digits and hyphens, e.g. eu-west-1")
    return text


def task_instance_path(dag_id: str, run_id: str, task_id: str, map_index: int | None = None) -> str:
    """The path of a task instance below Airflow's API; ids that hold slashes or the like stay one segment each.

    Raises:
        ValueError: an id is empty or a dot segment.
    """
    path = f"/api/v2/dags/{encode_segment(dag_id)}/dagRuns/{encode_segment(run_id)}/taskInstances/{encode_segment(task_id)}"
    return path if map_index is None else f"{path}/{map_index}"
