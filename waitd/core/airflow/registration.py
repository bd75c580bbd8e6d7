"""What an Airflow task leaves in Airflow while it is parked, and how it is found there again; pure.

A task parked by `resume` leaves it in the text that Airflow shows of it, as the last block; one parked as deferred in its state store.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

#: The headline of a parked task among Airflow's required actions.
PARKED_SUBJECT = "Waiting in waitd"
#: The key in the state store of a task that is parked as deferred.
REGISTRATION_KEY = "waitd_registration"
#: The class under which it is deferred, as Airflow names it.
TRIGGER_CLASS = "waitd.airflow.triggers.WaitdTrigger"

_LAST_BLOCK = re.compile(r"```json\n(?P<json>[^`]*)\n```\s*\Z")


def render_registration(registration: Mapping[str, Any], url: str) -> str:
    """The Markdown that Airflow shows of a parked task; `registration` has the fields of `waitd.models.Registration`."""
    block = json.dumps(registration, indent=2).replace("`", "\\u0060")  # a block ends with the first of them
    return (
        f"waitd pokes and wakes this task; there is nothing to do. It gives up at {registration['deadline']}.\n\n"
        f"The wait: {url}\n\n```json\n{block}\n```\n"
    )


def parse_registration(text: object) -> Any:
    """The registration in such a text, as decoded JSON and not checked; None where there is none."""
    found = _LAST_BLOCK.search(text) if isinstance(text, str) else None
    if found is None:
        return None
    try:
        return json.loads(found["json"])
    except ValueError:
        return None
