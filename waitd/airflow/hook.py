"""The hook for Airflow connections of type `waitd`."""

from functools import cached_property
from typing import Any

from waitd.airflow.client import WaitdClient, WaitdUnreachable, WaitdVersionMismatch
from waitd.airflow.versions import BaseHook

DEFAULT_PORT = 8795
#: The connection that waitd uses to reach this Airflow, unless the waitd connection names another.
DEFAULT_AIRFLOW_CONN_ID = "airflow_default"
#: Timeout of one request, in seconds.
DEFAULT_TIMEOUT = 10.0


class WaitdHook(BaseHook):
    """Interact with a waitd daemon.

    The connection has the daemon's host, port and schema (http or https), and an API key as its
    password. Its extra may have:

    - `airflow_conn_id`: the connection that waitd uses to reach this Airflow
      (default: `airflow_default`).
    - `airflow_user`: the id of the Airflow user that waitd logs in as. If it is given, only this
      user can resume parked tasks.
    - `ca_file`: CA certificates to verify waitd's certificate with.
    - `timeout`: timeout of one request, in seconds (default: 10).
    - `public_url`: waitd's URL in links shown in the UI (default: from host and port).

    Args:
        waitd_conn_id: the connection to waitd.
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
        """The connection. Raises AirflowNotFoundException if it does not exist."""
        return self.get_connection(self.waitd_conn_id)

    @cached_property
    def extra(self) -> dict[str, Any]:
        """The fields of the connection's extra that are not empty."""
        fields = self.connection.extra_dejson
        return {name: value for name, value in fields.items() if value is not None and value != ""}

    @property
    def base_url(self) -> str:
        """The daemon's URL, e.g. `http://127.0.0.1:8795`."""
        connection = self.connection
        host = connection.host or "127.0.0.1"
        if "://" in host:
            return str(host).rstrip("/")
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"{connection.schema or 'http'}://{host}:{connection.port or DEFAULT_PORT}"

    @property
    def airflow_conn_id(self) -> str:
        """The connection that waitd uses to reach this Airflow."""
        return str(self.extra.get("airflow_conn_id", DEFAULT_AIRFLOW_CONN_ID))

    @property
    def airflow_user(self) -> str | None:
        """The id of the only Airflow user that may resume parked tasks, or None for any user."""
        user = self.extra.get("airflow_user")
        return None if user is None else str(user)

    def get_conn(self) -> WaitdClient:
        """Return a client of the daemon. Use it as a context manager."""
        return WaitdClient(
            self.base_url,
            api_key=self.connection.password or None,
            ca_file=self.extra.get("ca_file"),
            timeout=float(self.extra.get("timeout", DEFAULT_TIMEOUT)),
        )

    def wait_url(self, wait_id: str) -> str:
        """The URL of a wait, for people."""
        base = str(self.extra.get("public_url", self.base_url)).rstrip("/")
        return f"{base}/v1/waits/{wait_id}"

    def test_connection(self) -> tuple[bool, str]:
        """Test whether waitd accepts waits, for the button in Airflow's UI."""
        try:
            with self.get_conn() as client:
                is_ready = client.is_ready()
        except (WaitdUnreachable, WaitdVersionMismatch, ValueError, OSError) as error:
            return False, str(error)
        return is_ready, f"waitd at {self.base_url} {'accepts' if is_ready else 'does not accept'} waits"
