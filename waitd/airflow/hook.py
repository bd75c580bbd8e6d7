"""The hook: a waitd, known by an Airflow connection of type `waitd`."""

from functools import cached_property
from typing import Any

from airflow.sdk import BaseHook

from waitd.airflow.client import WaitdClient, WaitdUnreachable

DEFAULT_PORT = 8795
#: The connection by which waitd knows this Airflow, where nobody says otherwise.
DEFAULT_AIRFLOW_CONN_ID = "airflow_default"
#: Seconds that one request may take.
DEFAULT_TIMEOUT = 10.0


class WaitdHook(BaseHook):
    """Talks to waitd.

    The connection has host, port and schema (http or https), the API key as its password, and in its extra: `airflow_conn_id`,
    `airflow_user`, `ca_file`, `timeout` (seconds) and `public_url`.
    """

    conn_name_attr = "waitd_conn_id"
    default_conn_name = "waitd_default"
    conn_type = "waitd"
    hook_name = "waitd"

    def __init__(self, waitd_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.waitd_conn_id = waitd_conn_id

    @cached_property
    def connection(self) -> Any:
        """The connection. Raises AirflowNotFoundException where there is none."""
        return self.get_connection(self.waitd_conn_id)

    @cached_property
    def extra(self) -> dict[str, Any]:
        """The connection's extra fields, those that are not empty."""
        given = self.connection.extra_dejson
        return {name: value for name, value in given.items() if value is not None and value != ""}

    @property
    def base_url(self) -> str:
        """Where the daemon listens, e.g. `http://127.0.0.1:8795`."""
        connection = self.connection
        host = connection.host or "127.0.0.1"
        if "://" in host:
            return str(host).rstrip("/")
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"{connection.schema or 'http'}://{host}:{connection.port or DEFAULT_PORT}"

    @property
    def airflow_conn_id(self) -> str:
        """The connection by which waitd knows this Airflow."""
        return str(self.extra.get("airflow_conn_id", DEFAULT_AIRFLOW_CONN_ID))

    @property
    def airflow_user(self) -> str | None:
        """The id of the Airflow user as whom waitd comes, where only it may wake parked tasks."""
        user = self.extra.get("airflow_user")
        return None if user is None else str(user)

    def get_conn(self) -> WaitdClient:
        """A client of the daemon, to be used as a context manager."""
        return WaitdClient(
            self.base_url,
            api_key=self.connection.password or None,
            ca_file=self.extra.get("ca_file"),
            timeout=float(self.extra.get("timeout", DEFAULT_TIMEOUT)),
        )

    def url_of(self, wait_id: str) -> str:
        """Where a person sees this wait."""
        base = str(self.extra.get("public_url", self.base_url)).rstrip("/")
        return f"{base}/v1/waits/{wait_id}"

    def test_connection(self) -> tuple[bool, str]:
        """Whether waitd takes waits, for the button in the UI."""
        try:
            with self.get_conn() as client:
                ready = client.ready()
        except (WaitdUnreachable, ValueError, OSError) as error:
            return False, str(error)
        return ready, f"waitd at {self.base_url} {'takes' if ready else 'does not take'} waits"
