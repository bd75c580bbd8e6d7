"""The link from a task in Airflow's UI to its wait."""

from typing import Any

from airflow.sdk import BaseOperatorLink


class WaitLink(BaseOperatorLink):
    """Stored with the task when it is parked, so that it is there while the task waits."""

    name = "Wait in waitd"
    #: The XCom under which Airflow keeps the link.
    xcom_key = "_link_waitd"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow's signature
        """The URL of the wait that the task registered in this run of its process; "" before that."""
        return getattr(operator, "wait_url", "")
