"""The settings: names, defaults, validation and sources.

An environment variable `WAITD_<NAME>` takes precedence over the TOML file. `waitd.app` and the CLI
load the settings once; everything else receives plain values. `config/waitd.toml` explains each
setting, and a test compares it with this package. `daemon` has the settings of a daemon, `cost`
those of the cost ledger, `limits` those of namespaces and callers; `types` validates values, and
`loading` loads them.
"""

from waitd.settings.cost import CostSettings
from waitd.settings.daemon import Settings
from waitd.settings.loading import load
from waitd.settings.types import NamespaceSettings, parse_bind

__all__ = ["CostSettings", "NamespaceSettings", "Settings", "load", "parse_bind"]
