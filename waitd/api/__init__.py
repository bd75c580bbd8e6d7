"""The HTTP door: routes, what is refused at it and how, and a wait as it is shown.

`build_application(Services(...))` makes the aiohttp application, an `ApiRunner` serves it. A route is a line of `table`: it is served,
checked and described (`openapi`) by what stands there. What does not live here: what a wait's parameters mean
(`waitd.probes`, `waitd.sinks`), how rows are kept (`waitd.stores`), sockets, signals and the order of a drain (`waitd.app`).
"""

from waitd.api.application import build_application
from waitd.api.follow.feed import EventFeed
from waitd.api.follow.long_polls import LongPolls
from waitd.api.server.runner import ApiRunner
from waitd.api.server.throttle import Throttle
from waitd.api.server.tls import Certificate, TlsSite
from waitd.api.services import Health, Limits, Services

__all__ = [
    "ApiRunner",
    "Certificate",
    "EventFeed",
    "Health",
    "Limits",
    "LongPolls",
    "Services",
    "Throttle",
    "TlsSite",
    "build_application",
]
