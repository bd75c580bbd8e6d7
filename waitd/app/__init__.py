"""The composition root, the only one: settings become objects, objects run in one task group, SIGTERM drains them.

    parts         probes, sinks, and the connections that both use
    presets       kinds of job systems, from their files
    connections   resolvers and egress rules, as the settings want them
    daemon        one daemon: what its parts tell each other, and its life
    run           the process around it

What does not live here: anything that decides. A probe is written in `waitd.probes` and named here in one line.
"""

from waitd.app.daemon import Daemon
from waitd.app.parts import Parts, parts_of, probes_of
from waitd.app.run import daemon_of, serve

__all__ = ["Daemon", "Parts", "daemon_of", "parts_of", "probes_of", "serve"]
