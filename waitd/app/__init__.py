"""The composition root: builds every object from the settings and runs them in one task group.

`open_daemon` assembles a daemon, `serve` runs one as a process, and `open_parts` builds the probes
and sinks alone. Nothing here decides: a new kind or sink is written in `waitd.probes` or
`waitd.sinks` and named here in one line.
"""

from waitd.app.daemon import Daemon
from waitd.app.parts import Parts, open_parts, open_probes
from waitd.app.run import open_daemon, serve

__all__ = ["Daemon", "Parts", "open_daemon", "open_parts", "open_probes", "serve"]
