"""Which WAITD_ variables mean something."""

from collections.abc import Iterable

from waitd.settings import Settings

#: The port that waitd listens on unless it is told another.
DEFAULT_PORT = int(str(Settings.model_fields["bind"].default).rpartition(":")[2])
#: No settings of the daemon: what it was built from, and where the CLI finds it.
OTHERS = {"WAITD_BUILD", "WAITD_URL", "WAITD_API_KEY", "WAITD_API_KEY_FILE", "WAITD_CA_FILE"}


def unknown(names: Iterable[str]) -> set[str]:
    """Those of these variables that no setting belongs to."""
    known = {f"WAITD_{name.upper()}" for name in Settings.model_fields}
    return set(names) - known - OTHERS
