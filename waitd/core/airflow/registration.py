"""The registration: what a task stores in Airflow while it is parked, so that waitd can find it.

A task that parks for a human-in-the-loop response stores it as the last block of the text that
Airflow shows for the task; a task that parks as deferred stores it in its state store.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

#: The subject of a parked task among Airflow's required actions.
PARKED_SUBJECT = "Waiting in waitd"
#: The key in the state store of a task that is parked as deferred.
REGISTRATION_KEY = "waitd_registration"
#: The class path of the trigger of a deferred task.
TRIGGER_CLASS = "waitd.airflow.triggers.WaitdTrigger"

_LAST_BLOCK = re.compile(r"```json\n(?P<json>[^`]*)\n```\s*\Z")


def render_registration(registration: Mapping[str, Any], url: str) -> str:
    """The Markdown that Airflow shows for a parked task.

    Args:
        registration: the fields of `waitd.models.Registration`.
        url: the wait in waitd's API.
    """
    block = json.dumps(registration, indent=2).replace("`", "\\u0060")  # a backtick would end the block
    return (
        f"waitd polls the job and resumes this task; there is nothing to do. It gives up at {registration['deadline']}.\n\n"
        f"The wait: {url}\n\n```json\n{block}\n```\n"
    )


def parse_registration(text: object) -> Any:
    """The registration in such a Markdown text, as unvalidated JSON; None if there is none."""
    matched = _LAST_BLOCK.search(text) if isinstance(text, str) else None
    if matched is None:
        return None
    try:
        return json.loads(matched["json"])
    except ValueError:
        return None
