"""The metaclass of the operators, which lets an invalid argument of a mapped task fail at once."""

from typing import Any

from airflow.sdk.bases.operator import BaseOperatorMeta

from waitd.airflow.versions import AirflowFailException


class FailAtOnce(BaseOperatorMeta):
    """Makes operators; one that a worker makes of a mapped one is not retried for its arguments.

    Those of other operators are checked when the DAG is parsed.
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - a metaclass's
        """See `type.__call__`."""
        try:
            return super().__call__(*args, **kwargs)
        except ValueError as error:
            if not kwargs.get("_airflow_from_mapped"):
                raise
            raise AirflowFailException(str(error)) from None
