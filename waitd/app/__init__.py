"""The composition root, the only one: settings become objects, objects run in one task group, SIGTERM drains them.

    parts         probes, sinks, and the connections that both use
    presets       kinds of job systems, from their files
    connections   resolvers and egress rules, as the settings want them
    daemon        one daemon: what its parts tell each other, and its life
    run           the process around it

What does not live here: anything that decides. A probe is written in `waitd.probes` and named here in one line.
"""

from waitd.app.daemon import Daemon
from waitd.app.parts import Parts, open_parts, open_probes
from waitd.app.run import open_daemon, serve

__all__ = ["Daemon", "Parts", "open_daemon", "open_parts", "open_probes", "serve"]
