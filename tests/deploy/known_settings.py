"""The WAITD_ variables that have a meaning."""

from collections.abc import Iterable

from waitd.settings import Settings

#: The default port.
DEFAULT_PORT = int(str(Settings.model_fields["bind"].default).rpartition(":")[2])
#: Variables that are no settings of the daemon: its build, and the CLI's.
OTHERS = {"WAITD_BUILD", "WAITD_URL", "WAITD_API_KEY", "WAITD_API_KEY_FILE", "WAITD_CA_FILE"}


def unknown_variables(names: Iterable[str]) -> set[str]:
    """The variables among these that have no meaning."""
    known = {f"WAITD_{name.upper()}" for name in Settings.model_fields}
    return set(names) - known - OTHERS
