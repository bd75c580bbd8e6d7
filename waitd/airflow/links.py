"""The link from a task in Airflow's UI to its wait."""

from typing import Any

from waitd.airflow.versions import BaseOperatorLink


class WaitLink(BaseOperatorLink):
    """Link to the wait in waitd.

    It is stored when the task parks, so it works while the task waits.
    """

    name = "Wait in waitd"
    #: The XCom in which Airflow stores the link.
    xcom_key = "_link_waitd"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow's signature
        """The URL of the task's wait, or "" before it is registered."""
        return getattr(operator, "wait_url", "")
