"""What Airflow asks every provider about itself, through the entry point `apache_airflow_provider`."""

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """The provider's description, as Airflow's `provider_info.schema.json` wants it."""
    return {
        "package-name": "waitd",
        "name": "waitd",
        "description": "Sensors that leave their slot and need no Triggerer: waitd waits, and the task goes on.",
        "integrations": [{"integration-name": "waitd", "external-doc-url": "", "tags": ["service"]}],
        "operators": [{"integration-name": "waitd", "python-modules": ["waitd.airflow.operators"]}],
        "sensors": [{"integration-name": "waitd", "python-modules": ["waitd.airflow.sensors"]}],
        "hooks": [{"integration-name": "waitd", "python-modules": ["waitd.airflow.hook"]}],
        "extra-links": ["waitd.airflow.links.WaitLink"],
        "connection-types": [
            {
                "connection-type": "waitd",
                "hook-name": "waitd",
                "hook-class-name": "waitd.airflow.hook.WaitdHook",
                "ui-field-behaviour": {
                    "hidden-fields": ["login"],
                    "relabeling": {"schema": "Scheme", "password": "API key"},
                    "placeholders": {"host": "127.0.0.1", "port": "8795", "schema": "http"},
                },
                "conn-fields": {
                    "airflow_conn_id": _text(
                        "Airflow connection",
                        "The connection by which waitd knows this Airflow. Default: airflow_default.",
                    ),
                    "airflow_user": _text(
                        "Airflow user",
                        "The id of the user as whom waitd comes; where it is given, nobody else can wake a parked task.",
                    ),
                    "ca_file": _text(
                        "CA file", "Certificates to check waitd's against. Default: the system's."
                    ),
                    "timeout": {
                        "label": "Timeout",
                        "description": "Seconds that one request may take. Default: 10.",
                        "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
                    },
                    "public_url": _text(
                        "Public URL",
                        "Where people reach waitd, for the links in the UI. Default: host and port.",
                    ),
                },
            }
        ],
    }


def _text(label: str, description: str) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"]}}
