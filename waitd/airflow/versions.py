"""What differs between the versions of Airflow: its classes, and which callback modes work.

Below the oldest supported version, importing this module raises RuntimeError.
"""

import re
from importlib.metadata import version
from typing import Literal

from airflow import __version__ as _airflow_version  # type: ignore[attr-defined] # mypy finds tests/airflow

from waitd import __version__

CallbackMode = Literal["auto", "resume", "set_state", "clear"]
_OLDEST = (3, 0)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


AIRFLOW = _numbers(_airflow_version)
if AIRFLOW < _OLDEST:
    raise RuntimeError(
        f"The provider waitd {__version__} needs Airflow {'.'.join(map(str, _OLDEST))} or later; this is "
        f"Airflow {_airflow_version}."
    )

from airflow.sdk import BaseOperatorLink  # noqa: E402 - Airflow 2 has none

if AIRFLOW >= (3, 1):
    from airflow.sdk import BaseHook
else:
    from airflow.hooks.base import BaseHook
if AIRFLOW >= (3, 2):
    from airflow.sdk.configuration import conf
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskDeferralTimeout,
    )
else:
    from airflow.configuration import conf
    from airflow.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskDeferralTimeout,
    )

#: Whether a task has a state store.
HAS_STATE_STORE = AIRFLOW >= (3, 3)
#: Whether a task parks for a human-in-the-loop response without a Triggerer.
RESUMES = AIRFLOW >= (3, 3) and _numbers(version("apache-airflow-providers-standard")) >= (1, 15)
if RESUMES:
    from airflow.providers.standard.operators.hitl import HITLOperator as ParkingOperator
else:
    from airflow.sdk import BaseOperator as ParkingOperator

__all__ = [
    "AIRFLOW",
    "HAS_STATE_STORE",
    "RESUMES",
    "AirflowException",
    "AirflowFailException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "BaseHook",
    "BaseOperatorLink",
    "CallbackMode",
    "ParkingOperator",
    "TaskDeferralTimeout",
    "conf",
    "resolve_mode",
]


def resolve_mode(mode: CallbackMode) -> CallbackMode:
    """The callback mode; for `auto`, the best one of this Airflow. Raises ValueError."""
    match mode:
        case "auto":
            return "resume" if RESUMES else "clear"
        case "resume" if not RESUMES:
            raise ValueError(
                "callback_mode: resume needs Airflow 3.3 with apache-airflow-providers-standard 1.15 or later; this is "
                f"Airflow {_airflow_version} with {version('apache-airflow-providers-standard')}. Here, set_state and clear work."
            )
        case "resume" | "set_state" | "clear":
            return mode
    raise ValueError(
        f"callback_mode must be one of auto, resume, set_state, clear; received {mode!r}. To start another DAG run or emit "
        'an asset event, add a sink instead: sinks=[{"kind": "airflow", "mode": "dag_run", …}].'
    )
