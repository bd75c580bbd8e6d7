"""The composition root: builds every object from the settings and runs them in one task group.

`open_daemon` assembles a daemon, `serve` runs one as a process, and `open_adapters` builds what
meets the outside: probes, sinks and connections. Nothing here decides: a new kind or sink is
written in `waitd.probes` or `waitd.sinks` and named here in one line.
"""

from waitd.app.adapters import Adapters, open_adapters, open_probes
from waitd.app.daemon import Daemon
from waitd.app.run import open_daemon, serve

__all__ = ["Adapters", "Daemon", "open_adapters", "open_daemon", "open_probes", "serve"]
