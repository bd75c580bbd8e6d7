"""The provider's metadata, for the entry point `apache_airflow_provider`."""

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """The metadata, in the form of Airflow's `provider_info.schema.json`."""
    return {
        "package-name": "waitd",
        "name": "waitd",
        "description": "Sensors that hold no worker slot and need no Triggerer: waitd waits, then resumes the task.",
        "integrations": [{"integration-name": "waitd", "external-doc-url": "", "tags": ["service"]}],
        "operators": [{"integration-name": "waitd", "python-modules": ["waitd.airflow.operators"]}],
        "sensors": [{"integration-name": "waitd", "python-modules": ["waitd.airflow.sensors"]}],
        "hooks": [{"integration-name": "waitd", "python-modules": ["waitd.airflow.hook"]}],
        "config": {
            "waitd": {
                "description": "What the provider assumes of the waitd daemon when a DAG is parsed.",
                "options": {
                    "own_kinds": {
                        "description": "The kinds of presets of your own, with commas; * stands for any text. Their "
                        "parameters are checked by the daemon only.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "acme.*, other.job",
                        "default": "",
                    },
                    "min_poke_interval": {
                        "description": "The daemon's setting of this name: the shortest poke_interval, in seconds.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": None,
                        "default": "0.1",
                    },
                    "max_timeout": {
                        "description": "The daemon's setting of this name: the longest timeout, in seconds.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": None,
                        "default": "31536000",
                    },
                },
            }
        },
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
                        "The connection that waitd uses to reach this Airflow. Default: airflow_default.",
                    ),
                    "airflow_user": _text(
                        "Airflow user",
                        "The id of the user that waitd logs in as. If it is given, only this user can resume parked tasks.",
                    ),
                    "ca_file": _text(
                        "CA file",
                        "CA certificates to verify waitd's certificate with. Default: the system's.",
                    ),
                    "timeout": {
                        "label": "Timeout",
                        "description": "Timeout of one request, in seconds. Default: 10.",
                        "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
                    },
                    "public_url": _text(
                        "Public URL",
                        "waitd's URL in links shown in the UI. Default: from host and port.",
                    ),
                },
            }
        ],
    }


def _text(label: str, description: str) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"]}}
